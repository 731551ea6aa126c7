// Release writes the files of a release: both programs as images for linux/amd64 and linux/arm64,
// an SBOM of each image, the chart, the CRDs, the Dockerfile, the images' digests, and checksums of
// all files. Two runs on the same commit write the same bytes; docs/releasing.md says how to check
// that.
//
// Usage, through the Makefile: make release [VERSION=0.1.0]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, log io.Writer) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	root := flags.String("root", "../..", "root of the checkout")
	out := flags.String("out", "", "directory for the files; it must be empty, and is created if it does not exist")
	version := flags.String("version", "", "version of the release, such as 0.1.0; empty: the chart's")
	helm := flags.String("helm", "helm", "path of helm 4")
	if err := flags.Parse(args); err != nil {
		return err
	}
	r := &release{root: *root, out: *out, version: *version, helm: *helm, log: log}
	if r.out == "" {
		r.out = filepath.Join(r.root, "dist")
	}
	var err error
	if r.version == "" {
		if r.version, err = chartVersion(r.root); err != nil {
			return err
		}
	}
	if err := checkVersion(r.version); err != nil {
		return err
	}
	if r.time, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	return r.write(ctx)
}

// release has the parameters of all steps.
type release struct {
	root, out, version, helm string
	// time is the creation time of everything in the release.
	time time.Time
	log  io.Writer
}

func (r *release) write(ctx context.Context) error {
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if entries, err := os.ReadDir(r.out); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("directory %s is not empty: remove it, or set another directory with -out", r.out)
	}
	work, err := os.MkdirTemp("", "securenotes-release-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	for _, step := range []func(context.Context, string) error{r.dockerfile, r.images, r.chart, r.crds} {
		if err := step(ctx, work); err != nil {
			return err
		}
	}
	// The checksums come last: a directory with SHA256SUMS is a complete release.
	if err := writeChecksums(r.out); err != nil {
		return err
	}
	return r.say("release %s is in %s", r.version, filepath.Clean(r.out))
}

func (r *release) say(format string, args ...any) error {
	_, err := fmt.Fprintf(r.log, format+"\n", args...)
	return err
}

func (r *release) file(name string) string { return filepath.Join(r.out, name) }

// images builds both programs for each platform, and writes the images, their SBOMs and their
// digests.
func (r *release) images(ctx context.Context, work string) error {
	compiler, err := goVersion(r.root)
	if err != nil {
		return err
	}
	if err := r.say("images: built on an empty base with the CA certificates of %s instead of Debian's in the Dockerfile", rootsModule); err != nil {
		return err
	}
	var digests []byte
	for _, p := range programs {
		binaries := map[string]string{}
		for _, architecture := range architectures {
			if err := r.say("images: %s for linux/%s", p.binary, architecture); err != nil {
				return err
			}
			if binaries[architecture], err = build(ctx, buildOptions{
				root: r.root, dir: filepath.Join(work, architecture), version: r.version, compiler: compiler, os: "linux", architecture: architecture,
			}, p); err != nil {
				return err
			}
		}
		lines, err := r.pack(p, binaries)
		if err != nil {
			return fmt.Errorf("pack %s: %w", p.image, err)
		}
		digests = append(digests, lines...)
	}
	return os.WriteFile(r.file("digests.txt"), digests, 0o644)
}

// pack writes the image of a program, from one binary for each architecture, and its SBOMs. It
// returns the lines of digests.txt.
func (r *release) pack(p program, binaries map[string]string) (digests []byte, err error) {
	index, images, err := imageIndex(p, binaries, r.version, r.time)
	if err != nil {
		return nil, err
	}
	digest, err := index.Digest()
	if err != nil {
		return nil, err
	}
	digests = fmt.Appendf(digests, "%s  %s:%s\n", digest, p.image, imageTag(r.version))
	for _, architecture := range architectures {
		digest, err := images[architecture].Digest()
		if err != nil {
			return nil, err
		}
		digests = fmt.Appendf(digests, "%s  %s:%s linux/%s\n", digest, p.image, imageTag(r.version), architecture)
		sbom, err := imageSBOM(p, binaries[architecture], r.version, architecture, digest, r.time)
		if err != nil {
			return nil, fmt.Errorf("SBOM of %s for %s: %w", p.image, architecture, err)
		}
		if err := os.WriteFile(r.file(fmt.Sprintf("%s-%s-linux-%s.cdx.json", p.image, r.version, architecture)), sbom, 0o644); err != nil {
			return nil, err
		}
	}
	err = writeArchive(r.file(fmt.Sprintf("%s-%s.oci.tar", p.image, r.version)), index, imageTag(r.version), r.time)
	return digests, err
}

var errNoDate = errors.New("SOURCE_DATE_EPOCH must be a number of seconds since 1970")
