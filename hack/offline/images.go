package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
	"github.com/securenotes/securenotes/hack/offline/internal/nodeimage"
	"github.com/securenotes/securenotes/hack/offline/internal/postgres"
	"github.com/securenotes/securenotes/hack/offline/internal/serve"
	"github.com/securenotes/securenotes/hack/offline/internal/store"
)

const lockHeader = "# Written by hack/offline at each run: what it has made, and where it served it.\n"

// images builds the images that are not in the cache, writes their lock, and serves them until ctx
// ends.
func (a *app) images(ctx context.Context) error {
	if err := a.Step(ctx, "Programs of the images, and Debian", a.ingredients); err != nil {
		return err
	}
	kept := store.Store{Dir: a.layout.Made()}
	lock := imagelock.Lock{Offline: true, Images: map[imagelock.Use]imagelock.Image{}}
	var served []store.Image
	if err := a.Step(ctx, "Images", func(ctx context.Context) (string, error) {
		recipes, err := a.recipes(ctx)
		if err != nil {
			return "", err
		}
		made := 0
		for _, use := range slices.Sorted(maps.Keys(recipes)) {
			r := recipes[use]
			image, found, err := kept.Ensure(ctx, r)
			if err != nil {
				return "", fmt.Errorf("build image %s: %w", r.Ref(), err)
			}
			if !found {
				made++
			}
			served = append(served, image)
			lock.Images[use] = imagelock.Image{Name: r.Name, Tag: r.Tag, Digest: image.Digest.String()}
		}
		return fmt.Sprintf("%d built, %d from the cache", made, len(recipes)-made), nil
	}); err != nil {
		return err
	}
	registry, err := serve.Start(served)
	if err != nil {
		return err
	}
	lock.Registry = registry.Address
	path := a.layout.Machine("images.lock.yaml")
	if err := lock.Write(path, lockHeader); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(a.out, path); err != nil {
		return err
	}
	<-ctx.Done()
	return registry.Stop()
}

// ingredients builds programs and fetches Debian packages at the same time: the former needs
// processors, the latter the network.
func (a *app) ingredients(ctx context.Context) (note string, err error) {
	var fetching sync.WaitGroup
	var fetched error
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fetching.Go(func() {
		if fetched = a.node().FetchDebian(ctx); fetched != nil {
			cancel()
		}
	})
	note, err = a.tools.Ensure(ctx, toolchain.ForOffline...)
	if err != nil {
		cancel()
	}
	fetching.Wait()
	return note, errors.Join(fetched, err)
}

func (a *app) node() nodeimage.Builder {
	return nodeimage.Builder{Say: a.Console, Layout: a.layout, Tools: a.tools, Helper: a.helper}
}

// recipes lists the images by their use.
func (a *app) recipes(ctx context.Context) (map[imagelock.Use]store.Recipe, error) {
	nonRoot := fmt.Sprintf("%d:%d", images.NonRoot, images.NonRoot)
	vault := images.Image{
		// The same path as in the official image, because the manifest has one path for both.
		Repository: images.Repository + "vault", User: nonRoot,
		Files: append(images.Users("vault", images.NonRoot), images.File{To: "/bin/vault", From: a.tools.Path(toolchain.Vault)}),
	}
	database, err := postgres.Image(ctx, a.Say)
	if err != nil {
		return nil, err
	}
	recipes := map[imagelock.Use]store.Recipe{}
	for use, image := range map[imagelock.Use]images.Image{
		imagelock.CertManager: images.Static(toolchain.CertManager, a.tools.Path(toolchain.CertManager), nonRoot),
		imagelock.Vault:       vault,
		imagelock.Postgres:    database,
	} {
		tag, err := image.ContentTag()
		if err != nil {
			return nil, err
		}
		recipes[use] = store.Recipe{Name: image.Repository, Tag: tag, Make: func(_ context.Context, dir string) (v1.Image, error) {
			a.Say("packing %s", image.Repository)
			return image.Build(dir + "/layer.tar")
		}}
	}
	node := a.node()
	tag, err := node.Tag()
	if err != nil {
		return nil, err
	}
	recipes[imagelock.Node] = store.Recipe{Name: imagelock.OfflineNode, Tag: tag, Make: node.Make}
	return recipes, nil
}
