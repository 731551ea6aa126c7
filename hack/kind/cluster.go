package main

import (
	"context"
	"fmt"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// clusterOnly brings up everything but SecureNotes itself.
func (a *app) clusterOnly(ctx context.Context) error {
	if _, err := a.upWithAddons(ctx); err != nil {
		return err
	}
	a.Title("The cluster is up after %s: export KUBECONFIG=%s", a.Elapsed(), a.layout.Kubeconfig())
	return nil
}

// upWithAddons brings the cluster up with everything that SecureNotes needs.
func (a *app) upWithAddons(ctx context.Context) (docker.Docker, error) {
	d, err := a.up(ctx)
	if err != nil {
		return d, err
	}
	ad := a.addons()
	if err := a.Step(ctx, "Images of cert-manager, Vault, PostgreSQL and the volume provisioner", func(ctx context.Context) (string, error) {
		list := []images.Source{ad.StorageImage()}
		for _, use := range a.lock.Uses() {
			if use == imagelock.Node {
				continue
			}
			image, err := a.puller(d).Get(use)
			if err != nil {
				return "", err
			}
			list = append(list, image)
		}
		return a.load(ctx, d, list...)
	}); err != nil {
		return d, err
	}
	for _, part := range []struct {
		title string
		work  func(context.Context) (string, error)
	}{
		{"Volumes", ad.Storage},
		{"cert-manager and a certificate authority", ad.CertManager},
		{"Vault", ad.Vault},
		{"PostgreSQL", ad.Postgres},
	} {
		if err := a.Step(ctx, part.title, part.work); err != nil {
			return d, err
		}
	}
	return d, nil
}

// load loads images on the nodes that do not have them.
func (a *app) load(ctx context.Context, d docker.Docker, list ...images.Source) (string, error) {
	nodes, err := a.cluster(d).Nodes(ctx)
	if err != nil {
		return "", err
	}
	if len(nodes) == 0 {
		return "", fmt.Errorf("there is no cluster; run `make cluster` first")
	}
	return images.Loader{Layout: a.layout, Docker: d, Kind: a.tools.Path(toolchain.Kind), Nodes: nodes}.Load(ctx, list...)
}

// checkCharts makes the API server check the objects of upstream's charts, also if the cluster runs
// hack/offline's images instead.
func (a *app) checkCharts(ctx context.Context) error {
	return a.Step(ctx, "Upstream's charts, as the API server sees them", func(ctx context.Context) (string, error) {
		upstream, err := imagelock.Read(a.upstreamLock())
		if err != nil {
			return "", err
		}
		ad := a.addons()
		ad.Lock = upstream
		return ad.CheckCharts(ctx)
	})
}
