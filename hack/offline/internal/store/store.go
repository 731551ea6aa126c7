// Package store keeps built images in the cache, each as a separate OCI layout. Blobs are not
// compressed, because they never leave this machine.
package store

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// Store is a directory with one directory for each image's name, and in it one for each tag.
type Store struct{ Dir string }

// Recipe defines how an image is built. The tag changes with everything that goes into the image.
type Recipe struct {
	Name, Tag string
	Make      func(ctx context.Context, dir string) (v1.Image, error) // dir is for files that are needed while the image is used
}

// Ref returns the name and the tag.
func (r Recipe) Ref() string { return r.Name + ":" + r.Tag }

// Image is a built image.
type Image struct {
	Recipe
	v1.Image
	Digest v1.Hash
	Dir    string // the directory of its OCI layout
}

// Ensure returns an image of the store. If it is not there, Ensure builds it, and removes other
// images of the same name.
func (s Store) Ensure(ctx context.Context, r Recipe) (image Image, found bool, err error) {
	name := filepath.Join(s.Dir, filepath.Base(r.Name))
	dir := filepath.Join(name, r.Tag)
	if _, err := os.Stat(dir); err == nil {
		image, err := open(dir, r)
		return image, true, err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return Image{}, false, err
	}
	work, err := os.MkdirTemp(s.Dir, ".work-*")
	if err != nil {
		return Image{}, false, err
	}
	defer func() { _ = os.RemoveAll(work) }()
	made, err := r.Make(ctx, work)
	if err != nil {
		return Image{}, false, err
	}
	// The image is written to another directory and renamed, so that it is complete even if a run
	// is killed.
	whole := filepath.Join(work, "oci")
	path, err := layout.Write(whole, empty.Index)
	if err != nil {
		return Image{}, false, err
	}
	if err := path.AppendImage(made); err != nil {
		return Image{}, false, err
	}
	if err := os.RemoveAll(name); err != nil {
		return Image{}, false, err
	}
	if err := os.MkdirAll(name, 0o755); err != nil {
		return Image{}, false, err
	}
	if err := os.Rename(whole, dir); err != nil {
		return Image{}, false, err
	}
	image, err = open(dir, r)
	return image, false, err
}

func open(dir string, r Recipe) (Image, error) {
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return Image{}, err
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return Image{}, err
	}
	if len(manifest.Manifests) != 1 {
		return Image{}, fmt.Errorf("directory %s contains %d images instead of one: remove it, and the image is built again", dir, len(manifest.Manifests))
	}
	digest := manifest.Manifests[0].Digest
	image, err := index.Image(digest)
	return Image{Recipe: r, Image: image, Digest: digest, Dir: dir}, err
}

// Blob returns the path of a blob of the image.
func (i Image) Blob(h v1.Hash) string { return filepath.Join(i.Dir, "blobs", h.Algorithm, h.Hex) }
