package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/registry"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// up starts an empty cluster and returns its daemon.
func (a *app) up(ctx context.Context) (d docker.Docker, err error) {
	if err := a.ours(ctx); err != nil {
		return d, err
	}
	if d, err = a.docker(ctx); err != nil {
		return d, err
	}
	stop, err := a.chooseImages(ctx)
	if err != nil {
		return d, err
	}
	defer stop()
	if err := a.Step(ctx, "Images to pull", a.puller(d).Pull); err != nil {
		if !a.lock.Offline {
			err = fmt.Errorf("%w; SECURENOTES_IMAGES=offline builds the images on this machine instead", err)
		}
		return d, err
	}
	stop() // the registry of hack/offline is no longer needed
	node, err := images.NodeRef(a.lock)
	if err != nil {
		return d, err
	}
	if err := a.Step(ctx, "Programs", func(ctx context.Context) (string, error) { return a.programs(ctx, d, node) }); err != nil {
		return d, err
	}
	return d, a.Step(ctx, "Cluster", func(ctx context.Context) (string, error) {
		return a.cluster(d).Ensure(ctx, node, a.lock.Offline)
	})
}

// docker finds a daemon, or makes hack/offline start one.
func (a *app) docker(ctx context.Context) (d docker.Docker, err error) {
	if d, ok := docker.Find(ctx); ok {
		return d, nil
	}
	if err := docker.Possible(ctx); err != nil {
		return d, err
	}
	if err := a.runOffline(ctx, "docker"); err != nil {
		return d, err
	}
	d, ok := docker.Find(ctx)
	if !ok {
		return d, errors.New("hack/offline started Docker, but no daemon answers")
	}
	return d, nil
}

// chooseImages chooses between upstream's images and those of hack/offline, prints the choice, and
// reads the lock. An existing cluster keeps its images, so that it is not replaced when a registry
// becomes available or unavailable. stop ends the registry that the lock may name.
func (a *app) chooseImages(ctx context.Context) (stop func(), err error) {
	stop = func() {}
	offline := false
	if err := a.Step(ctx, "Images: upstream's, or built here", func(ctx context.Context) (note string, err error) {
		if a.lock, err = imagelock.Read(a.upstreamLock()); err != nil {
			return "", err
		}
		offline, note, err = a.wantsOffline(ctx)
		if offline {
			return note + ": built here (hack/offline)", err
		}
		return note + ": upstream's (hack/kind/images.lock.yaml)", err
	}); err != nil || !offline {
		return stop, err
	}
	a.lock, stop, err = a.offlineImages(ctx)
	return stop, err
}

func (a *app) wantsOffline(ctx context.Context) (offline bool, why string, err error) {
	if r, found, err := cluster.ReadRecord(a.layout); err != nil {
		return false, "", err
	} else if found && r.Complete {
		return r.Own, "as in the existing cluster", nil
	}
	switch from := os.Getenv("SECURENOTES_IMAGES"); from {
	case "offline", "upstream":
		return from == "offline", "SECURENOTES_IMAGES is set", nil
	case "":
	default:
		return false, "", errors.New("SECURENOTES_IMAGES must be offline or upstream")
	}
	yes, why := registry.Answer(ctx, a.lock)
	return !yes, why, nil
}

// programs links kind, helm and kubectl in .cluster/bin. kind and helm are those in PATH if they
// have the pinned version; otherwise they are built. kubectl is from the node image.
func (a *app) programs(ctx context.Context, d docker.Docker, node string) (note string, err error) {
	note = a.tools.Adopt(ctx, toolchain.Kind, toolchain.Helm)
	built, err := a.tools.Ensure(ctx, toolchain.ForCluster...)
	if err != nil {
		return "", err
	}
	kubectl := filepath.Join(a.layout.Pulled(), "kubectl-"+layout.FileName(node))
	if _, err := os.Stat(kubectl); err != nil {
		tmp := kubectl + ".tmp"
		if err := d.CopyOut(ctx, node, "/usr/bin/kubectl", tmp); err != nil {
			return "", err
		}
		if err := os.Rename(tmp, kubectl); err != nil {
			return "", err
		}
	}
	for name, path := range map[string]string{
		"kubectl": kubectl, "kind": a.tools.Path(toolchain.Kind), "helm": a.tools.Path(toolchain.Helm),
	} {
		if err := layout.Link(a.layout.Program(name), path); err != nil {
			return "", err
		}
	}
	return note + built, nil
}

// ours returns an error if the cluster of another checkout runs on this machine.
func (a *app) ours(ctx context.Context) error {
	var alive *docker.Docker
	if d, ok := docker.Find(ctx); ok {
		alive = &d
	}
	why, err := cluster.Foreign(ctx, a.layout, alive)
	if err == nil && why != "" {
		err = errors.New(why)
	}
	return err
}
