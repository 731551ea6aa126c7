package main

import (
	"context"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
)

// down removes what run started or added, in the reverse order, and nothing else. Each part repeats
// without harm, so a teardown that was killed can be run again.
func (a *app) down(ctx context.Context) error {
	if err := a.ours(ctx); err != nil {
		return err
	}
	used := offlineUsed()
	d, found := docker.Find(ctx)
	if !found && used {
		// The daemon of hack/offline died. It is started again, so that what it left can be removed
		// in order.
		if err := a.runOffline(ctx, "revive"); err != nil {
			a.Say("the Docker daemon that was started here died and does not start again: %v", err)
		}
		d, found = docker.Find(ctx)
	}
	if found {
		if err := a.Step(ctx, "Cluster", func(ctx context.Context) (string, error) { return a.removeCluster(ctx, d) }); err != nil {
			return err
		}
	}
	if used {
		if err := a.runOffline(ctx, "down"); err != nil {
			return err
		}
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
		if err := d.RemoveImages(ctx, imagelock.OfflineNode); err != nil {
			return "", err
		}
	}
	return "nodes, volumes and network are gone", nil
}
