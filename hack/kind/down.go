package main

import (
	"context"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/imagelock"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
)

// down removes what run started or created, in the reverse order, and nothing else. Each part can
// be repeated, so an interrupted teardown can be run again.
func (a *app) down(ctx context.Context) error {
	if err := a.ours(ctx); err != nil {
		return err
	}
	used := offlineUsed()
	d, found := docker.Find(ctx)
	if !found && used {
		// The daemon of hack/offline died. Start it again to remove what it left.
		if err := a.runOffline(ctx, "revive"); err != nil {
			a.Say("the Docker daemon of hack/offline died and cannot be restarted: %v", err)
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
		return "a cluster of this name exists that no checkout of SecureNotes created: not changed", nil
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
	return "nodes, volumes and network removed", nil
}
