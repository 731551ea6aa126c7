package main

import (
	"context"
	"os"

	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/nodeimage"
)

// down removes what run started or added, in the reverse order, and nothing else. Each part repeats
// without harm, so a teardown that was killed can be run again.
func (a *app) down(ctx context.Context) error {
	if err := a.ours(ctx); err != nil {
		return err
	}
	d, found := docker.Find(ctx)
	if !found && os.Geteuid() == 0 {
		var err error
		nocap := func(ctx context.Context) (string, error) { return a.helper(ctx, "runc-nocap") }
		if d, found, err = docker.Revive(ctx, a.layout, nocap); err != nil {
			a.Say("the Docker daemon that was started here died and does not start again: %v", err)
		}
	}
	if found {
		if err := a.Step(ctx, "Cluster", func(ctx context.Context) (string, error) { return a.removeCluster(ctx, d) }); err != nil {
			return err
		}
	}
	if err := a.Step(ctx, "Docker", docker.Stop); err != nil {
		return err
	}
	return a.Step(ctx, "Files", func(context.Context) (string, error) {
		return "caches stay in " + a.layout.Cache, cluster.RemoveState(a.layout)
	})
}

func (a *app) removeCluster(ctx context.Context, d docker.Docker) (string, error) {
	c := a.cluster(d)
	_, recorded, err := cluster.ReadRecord(a.layout)
	if err != nil {
		return "", err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return "", err
	}
	if len(nodes) > 0 && !recorded && !d.Ours {
		return "a cluster of this name is there that no checkout of SecureNotes made: left alone", nil
	}
	if err := c.Delete(ctx); err != nil {
		return "", err
	}
	if err := d.RemoveNetwork(ctx); err != nil {
		return "", err
	}
	if !d.Ours {
		if err := d.RemoveImages(ctx, nodeimage.Repository); err != nil {
			return "", err
		}
	}
	return "nodes, volumes and network are gone", nil
}
