package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/layout"
)

// Puller pulls the images of a lock: the node image into Docker, the others into archives of the
// cache. Both stay when the cluster is removed, so that the next one needs no registry.
type Puller struct {
	Say    func(string, ...any)
	Cache  string // directory of the archives
	Docker docker.Docker
	Lock   imagelock.Lock
}

// Pulled is an image of a lock in the cache.
type Pulled struct{ ref, path string }

// Ref is the image's name with its tag.
func (p Pulled) Ref() (string, error) { return p.ref, nil }

func (p Pulled) archive(string) (string, error) {
	_, err := os.Stat(p.path)
	return p.path, err
}

// Get returns the image of one use.
func (p Puller) Get(use imagelock.Use) (Pulled, error) {
	image, err := p.Lock.Get(use)
	return Pulled{ref: image.Ref(), path: p.path(image)}, err
}

// path returns the archive's path, which contains the image's digest, or its tag if the lock has no
// digest.
func (p Puller) path(image imagelock.Image) string {
	return filepath.Join(p.Cache, layout.FileName(image.Pinned())+"-"+runtime.GOARCH+".tar")
}

// NodeRef returns the reference of the node image for kind and Docker.
func NodeRef(l imagelock.Lock) (string, error) {
	image, err := l.Get(imagelock.Node)
	if l.Registry == "" && image.Digest != "" {
		return image.Ref() + "@" + image.Digest, err
	}
	return image.Ref(), err // with a registry on this machine, the tag has a digest of the content
}

// Pull pulls the images that are missing, and prints the size of each in the registry, where
// upstream's are compressed.
func (p Puller) Pull(ctx context.Context) (note string, err error) {
	var stored int64
	pulled := 0
	for _, use := range p.Lock.Uses() {
		image := p.Lock.Images[use]
		here, err := p.here(ctx, use, image)
		if err != nil {
			return "", err
		}
		if here {
			continue
		}
		size, err := p.pull(ctx, use, image)
		if err != nil {
			return "", fmt.Errorf("pull %s: %w", image.Ref(), err)
		}
		stored += size
		pulled++
	}
	return fmt.Sprintf("%d pulled, %s; %d were here", pulled, megabytes(stored), len(p.Lock.Images)-pulled), nil
}

func (p Puller) here(ctx context.Context, use imagelock.Use, image imagelock.Image) (bool, error) {
	if use == imagelock.Node {
		ref, err := NodeRef(p.Lock)
		return p.Docker.HasImage(ctx, ref), err
	}
	_, err := os.Stat(p.path(image))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (p Puller) pull(ctx context.Context, use imagelock.Use, image imagelock.Image) (size int64, err error) {
	from := p.source(image)
	ref, err := name.ParseReference(from)
	if err != nil {
		return 0, err
	}
	found, err := remote.Image(ref, remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return 0, err
	}
	if size, err = stored(found); err != nil {
		return 0, err
	}
	unpinned := ""
	if image.Digest == "" {
		unpinned = ", by its tag alone: `bin/kind lock` looks its digest up"
	}
	p.Say("pulling %s, %s%s", image.Ref(), megabytes(size), unpinned)
	if use == imagelock.Node {
		as, err := NodeRef(p.Lock)
		if err != nil {
			return 0, err
		}
		if p.Lock.Registry == "" {
			from = as
		}
		return size, p.Docker.Pull(ctx, from, as)
	}
	return size, save(found, image.Ref(), p.path(image))
}

// source returns the reference of the image in its registry.
func (p Puller) source(image imagelock.Image) string {
	if p.Lock.Registry == "" {
		return image.Pinned()
	}
	_, path, _ := strings.Cut(image.Pinned(), "/")
	return p.Lock.Registry + "/" + path
}

// save writes the archive atomically, so that an interrupted pull leaves no partial archive.
func save(image v1.Image, ref, path string) error {
	tag, err := name.NewTag(ref)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer func() { _ = os.Remove(tmp) }()
	if err := tarball.WriteToFile(tmp, tag, image); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func stored(image v1.Image) (size int64, err error) {
	manifest, err := image.Manifest()
	if err != nil {
		return 0, err
	}
	for _, layer := range manifest.Layers {
		size += layer.Size
	}
	return size, nil
}

func megabytes(n int64) string { return fmt.Sprintf("%d MB", (n+500_000)/1_000_000) }
