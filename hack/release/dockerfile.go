package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// digestTimeout bounds the request for a digest, for machines that cannot reach a registry.
const digestTimeout = 10 * time.Second

// versionArgument is the Dockerfile's line that takes the version.
const versionArgument = "\nARG VERSION=devel\n"

// dockerfile writes a Dockerfile with the version and the digest of each base image, for building
// the images with Docker. If no registry can be reached, the base images keep only their tags.
func (r *release) dockerfile(ctx context.Context, _ string) error {
	raw, err := os.ReadFile(filepath.Join(r.root, "Dockerfile"))
	if err != nil {
		return err
	}
	text := string(raw)
	if strings.Count(text, versionArgument) != 1 {
		return fmt.Errorf("the Dockerfile must contain the line %q exactly once", strings.TrimSpace(versionArgument))
	}
	text = strings.Replace(text, versionArgument, "\nARG VERSION="+r.version+"\n", 1)
	ask, cancel := context.WithTimeout(ctx, digestTimeout)
	defer cancel()
	pinned, images, err := pin(ask, text)
	_, unreachable := errors.AsType[net.Error](err)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case unreachable, errors.Is(err, context.DeadlineExceeded):
		if err := r.say("Dockerfile: base images keep their tags, without a digest: %v", err); err != nil {
			return err
		}
		pinned = text
	case err != nil:
		return err
	default:
		if err := r.say("Dockerfile: %s", strings.Join(images, ", ")); err != nil {
			return err
		}
	}
	return os.WriteFile(r.file("Dockerfile"), []byte(pinned), 0o644)
}

// goImage matches the tag of the image that the Dockerfile builds in.
var goImage = regexp.MustCompile(`^golang:(\d+\.\d+\.\d+)-`)

// goVersion returns the version of Go that the Dockerfile uses, in the format of GOTOOLCHAIN.
func goVersion(root string) (string, error) {
	raw, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	if err != nil {
		return "", err
	}
	for _, image := range baseImages(strings.Split(string(raw), "\n")) {
		if match := goImage.FindStringSubmatch(image.name); match != nil {
			return "go" + match[1], nil
		}
	}
	return "", errors.New("the Dockerfile uses no base image golang:VERSION-...")
}

// baseImage is an image of a registry in a FROM line of a Dockerfile.
type baseImage struct {
	// line and field are zero-based indexes; field is that within the line.
	line, field int
	name        string
}

// baseImages returns the base images of a Dockerfile, without scratch and its own stages.
func baseImages(lines []string) []baseImage {
	var images []baseImage
	stages := []string{"scratch"}
	for i, line := range lines {
		fields := strings.Fields(line)
		if len(fields) == 0 || !strings.EqualFold(fields[0], "FROM") {
			continue
		}
		at := slices.IndexFunc(fields[1:], func(field string) bool { return !strings.HasPrefix(field, "--") }) + 1
		if at == 0 {
			continue
		}
		if image := fields[at]; !slices.Contains(stages, image) {
			images = append(images, baseImage{line: i, field: at, name: image})
		}
		if len(fields) > at+2 && strings.EqualFold(fields[at+1], "AS") {
			stages = append(stages, fields[at+2])
		}
	}
	return images
}

// pin adds the digest to the tag of each base image, and returns the changed Dockerfile and the
// images. An image that has a digest keeps it. pin fails if the registry does not answer, or does
// not have an image.
func pin(ctx context.Context, dockerfile string) (pinned string, images []string, err error) {
	lines := strings.Split(dockerfile, "\n")
	for _, image := range baseImages(lines) {
		if !strings.Contains(image.name, "@") {
			reference, err := exactTag(image.name)
			if err != nil {
				return "", nil, fmt.Errorf("line %d of the Dockerfile: %w", image.line+1, err)
			}
			found, err := remote.Head(reference, remote.WithContext(ctx))
			if err != nil {
				return "", nil, fmt.Errorf("digest of the base image %s: %w", image.name, err)
			}
			fields := strings.Fields(lines[image.line])
			fields[image.field] = image.name + "@" + found.Digest.String()
			lines[image.line] = strings.Join(fields, " ")
			image.name = fields[image.field]
		}
		images = append(images, image.name)
	}
	return strings.Join(lines, "\n"), images, nil
}

// exactTag parses an image's name, which may omit the registry, as Docker allows, but not the tag.
func exactTag(image string) (name.Tag, error) {
	tag, err := name.NewTag(image)
	if err == nil && !strings.HasSuffix(image, ":"+tag.TagStr()) {
		err = fmt.Errorf("the base image %s needs an exact tag", image)
	}
	return tag, err
}
