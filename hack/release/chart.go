package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// chart packages the chart with the release's version.
func (r *release) chart(ctx context.Context, work string) error {
	name := fmt.Sprintf("%s-%s.tgz", filepath.Base(chartDir), r.version)
	cmd := exec.CommandContext(ctx, r.helm, "package", filepath.Join(r.root, chartDir),
		"--version", r.version, "--app-version", r.version, "--destination", work)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("helm package: %w\n%s", err, out)
	}
	packaged, err := os.ReadFile(filepath.Join(work, name))
	if err != nil {
		return fmt.Errorf("helm package did not write %s: %w", name, err)
	}
	same, err := withTime(packaged, r.time)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return os.WriteFile(r.file(name), same, 0o644)
}

// withTime returns the packaged chart with the same time for every file. helm uses the times of the
// checkout.
func withTime(packaged []byte, created time.Time) ([]byte, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(packaged))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	zipped := gzip.NewWriter(&out)
	// helm recognizes its own archives by these fields.
	zipped.Extra, zipped.Comment = unzipped.Extra, unzipped.Comment
	from, to := tar.NewReader(unzipped), tar.NewWriter(zipped)
	for {
		header, err := from.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if err := to.WriteHeader(&tar.Header{Typeflag: header.Typeflag, Name: header.Name, Mode: header.Mode, Size: header.Size, ModTime: created}); err != nil {
			return nil, err
		}
		if _, err := io.Copy(to, from); err != nil {
			return nil, err
		}
	}
	if err := to.Close(); err != nil {
		return nil, err
	}
	if err := zipped.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// crds writes all CRDs into one file, so that they can be installed separately from the chart.
func (r *release) crds(context.Context, string) error {
	paths, err := filepath.Glob(filepath.Join(r.root, "config/crd/bases/*.yaml"))
	if err != nil {
		return err
	}
	if len(paths) == 0 {
		return errors.New("no CRD in config/crd/bases: run `make generate`")
	}
	var all bytes.Buffer
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(string(raw), "---\n") {
			all.WriteString("---\n")
		}
		all.Write(raw)
	}
	return os.WriteFile(r.file(fmt.Sprintf("securenotes-crds-%s.yaml", r.version)), all.Bytes(), 0o644)
}
