package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/internal/registry"
	"github.com/securenotes/securenotes/hack/kind/internal/release"
)

// releaseFiles writes dist/Dockerfile. Where no registry answers, its base images keep their tags.
func (a *app) releaseFiles(ctx context.Context) error {
	return a.Step(ctx, "Dockerfile of the release", func(ctx context.Context) (string, error) {
		raw, err := os.ReadFile(filepath.Join(a.layout.Root, "Dockerfile"))
		if err != nil {
			return "", err
		}
		dockerfile := string(raw)
		yes, note := registry.AnswersHub(ctx)
		if yes {
			var images []string
			if dockerfile, images, err = release.Pin(ctx, dockerfile); err != nil {
				return "", err
			}
			note = strings.Join(images, ", ")
		} else {
			note += ": base images are pinned by their tags alone"
		}
		dist := filepath.Join(a.layout.Root, "dist")
		if err := os.MkdirAll(dist, 0o755); err != nil {
			return "", err
		}
		return "dist/Dockerfile: " + note, os.WriteFile(filepath.Join(dist, "Dockerfile"), []byte(dockerfile), 0o644)
	})
}
