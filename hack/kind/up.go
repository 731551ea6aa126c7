package main

import (
	"context"
	"errors"
	"os"

	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/nodeimage"
	"github.com/securenotes/securenotes/hack/kind/internal/registry"
	"github.com/securenotes/securenotes/hack/kind/internal/toolchain"
)

// up brings Docker and an empty cluster up and returns the daemon it runs in.
func (a *app) up(ctx context.Context) (d docker.Docker, err error) {
	if err := a.ours(ctx); err != nil {
		return d, err
	}
	// Asked before the tools are built, which takes half an hour the first time.
	if err := docker.Possible(ctx); err != nil {
		return d, err
	}
	own, err := a.chooseNodeImage(ctx)
	if err != nil {
		return d, err
	}
	if err := a.Step(ctx, "Tools", func(ctx context.Context) (string, error) {
		wanted := toolchain.ForCluster
		if own {
			wanted = append(append([]toolchain.Program{}, toolchain.ForNodeImage...), wanted...)
		}
		return a.tools.Ensure(ctx, wanted...)
	}); err != nil {
		return d, err
	}
	if err := a.Step(ctx, "Docker", func(ctx context.Context) (note string, err error) {
		d, note, err = docker.Ensure(ctx, a.layout, a.Say, func(ctx context.Context) (string, error) { return a.helper(ctx, "runc-nocap") })
		return note, err
	}); err != nil {
		return d, err
	}
	image := ""
	if own {
		if err := a.Step(ctx, "Node image", func(ctx context.Context) (note string, err error) {
			b := nodeimage.Builder{Say: a.Console, Layout: a.layout, Tools: a.tools, Helper: a.helper}
			image, note, err = b.Ensure(ctx, d)
			return note, err
		}); err != nil {
			return d, err
		}
	}
	return d, a.Step(ctx, "Cluster", func(ctx context.Context) (string, error) {
		return a.cluster(d).Ensure(ctx, image, own)
	})
}

// chooseNodeImage decides between kind's published node image and our own, and says so. A cluster
// that is there keeps its own, so that a registry that comes and goes does not replace it.
func (a *app) chooseNodeImage(ctx context.Context) (own bool, err error) {
	err = a.Step(ctx, "Node image: kind's or our own", func(ctx context.Context) (string, error) {
		if r, found, err := cluster.ReadRecord(a.layout); err != nil {
			return "", err
		} else if found && r.Complete {
			own = r.Own
			return "as the cluster that is there: " + nameOf(own), nil
		}
		if from := os.Getenv("SECURENOTES_NODE_IMAGE"); from == "own" || from == "kind" {
			own = from == "own"
			return "as SECURENOTES_NODE_IMAGE says: " + nameOf(own), nil
		} else if from != "" {
			return "", errors.New("SECURENOTES_NODE_IMAGE must be own or kind")
		}
		yes, why := registry.Answers(ctx)
		own = !yes
		return why + ": " + nameOf(own), nil
	})
	return own, err
}

func nameOf(own bool) string {
	if own {
		return "our own node image"
	}
	return "kind's official node image"
}

// ours fails when another checkout's cluster is running on this machine.
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
