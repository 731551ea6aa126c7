package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
)

// upstreamLock returns the path of the committed lock.
func (a *app) upstreamLock() string {
	return filepath.Join(a.layout.Root, "hack", "kind", "images.lock.yaml")
}

// fillLock looks up the digests of all tags in the committed lock and writes them to it.
func (a *app) fillLock(ctx context.Context) error {
	return a.Step(ctx, "Digests of the images in "+a.upstreamLock(), func(ctx context.Context) (string, error) {
		lock, err := imagelock.Read(a.upstreamLock())
		if err != nil {
			return "", err
		}
		for _, use := range lock.Uses() {
			image := lock.Images[use]
			tag, err := name.NewTag(image.Ref(), name.StrictValidation)
			if err != nil {
				return "", err
			}
			found, err := remote.Head(tag, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain))
			if err != nil {
				return "", fmt.Errorf("digest of %s: %w", image.Ref(), err)
			}
			image.Digest = found.Digest.String()
			lock.Images[use] = image
			a.Say("%s %s", image.Ref(), image.Digest)
		}
		return "", lock.Write(a.upstreamLock(), imagelock.UpstreamHeader)
	})
}
