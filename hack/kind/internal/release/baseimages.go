// Package release prepares the Dockerfile of a release: each base image gets the digest that its
// registry has for the tag, so that the same release is always built on the same bytes.
package release

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// baseImage is a FROM line of a Dockerfile that names an image of a registry.
type baseImage struct {
	// line counts from 0, and field from 0 within the line.
	line, field int
	name        string
}

// baseImages lists the images that a Dockerfile builds on, without scratch and its own stages.
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

// Pin returns the Dockerfile with the digest of each base image behind its tag, and the images with
// it. An image that has a digest keeps it. Errors: the registry does not answer, or lacks the
// image.
func Pin(ctx context.Context, dockerfile string) (pinned string, images []string, err error) {
	lines := strings.Split(dockerfile, "\n")
	for _, image := range baseImages(lines) {
		if !strings.Contains(image.name, "@") {
			reference, err := name.NewTag(image.name, name.StrictValidation)
			if err != nil {
				return "", nil, fmt.Errorf("line %d of the Dockerfile: the base image needs an exact tag: %w", image.line+1, err)
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
