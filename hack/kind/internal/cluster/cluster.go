package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Cluster is the machine's one kind cluster.
type Cluster struct {
	Say    *console.Console
	Layout layout.Layout
	Docker docker.Docker
	Kind   string // path of the program
	Kube   kube.Client
}

func (c Cluster) kind(args ...string) *proc.Cmd {
	return proc.New(c.Kind, args...).WithEnv(c.Docker.Env()...)
}

// Nodes returns the node containers, running or not.
func (c Cluster) Nodes(ctx context.Context) ([]string, error) {
	out, err := c.Docker.Command("ps", "--all", "--filter", "label=io.x-k8s.kind.cluster="+layout.ClusterName, "--format", "{{.Names}}").Output(ctx)
	if err != nil {
		return nil, err
	}
	nodes := strings.Fields(out)
	slices.Sort(nodes)
	return nodes, nil
}

// Ensure returns when a cluster with the given node image answers. Empty image: kind's default.
// own: the image is ours and has no pod network.
func (c Cluster) Ensure(ctx context.Context, image string, own bool) (note string, err error) {
	want, err := config(c.Layout, image, own)
	if err != nil {
		return "", err
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return "", err
	}
	if len(nodes) > 0 {
		reason, err := c.unusable(ctx, want, nodes)
		if err != nil {
			return "", err
		}
		if reason == "" {
			return fmt.Sprintf("%d nodes were there", len(nodes)), c.network(ctx, own)
		}
		c.Say.Say("recreating the cluster: %s", reason)
		if err := c.Delete(ctx); err != nil {
			return "", err
		}
	}
	return "1 control plane, 2 workers", c.create(ctx, want, own)
}

// unusable returns why the existing cluster must be replaced. Empty: it can be used.
func (c Cluster) unusable(ctx context.Context, want string, nodes []string) (string, error) {
	r, found, err := ReadRecord(c.Layout)
	if err != nil {
		return "", err
	}
	if !found && c.Docker.Ours {
		return "it is left over from an earlier cluster", nil // our daemon has no other containers
	}
	if !found {
		return "", fmt.Errorf("a kind cluster named %q exists that no checkout of SecureNotes created; remove it (kind delete cluster --name %s) or use another machine", layout.ClusterName, layout.ClusterName)
	}
	// Foreign was checked before the daemon was started, because a daemon starts the nodes that
	// died with it.
	switch {
	case r.Checkout != c.Layout.Root:
		return "it belonged to the checkout " + r.Checkout + " and died with its Docker daemon", nil
	case !r.Complete:
		return "an earlier run was interrupted while it created the cluster", nil
	case r.Config != want:
		return "its configuration or node image has changed", nil
	case len(nodes) != 3:
		return fmt.Sprintf("it has %d of 3 nodes", len(nodes)), nil
	}
	if err := c.wake(ctx, nodes); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		c.Say.Say("%v", err)
		return "it cannot be restarted", nil
	}
	return "", nil
}

// wake starts stopped nodes, as after a reboot, and waits for their API server.
func (c Cluster) wake(ctx context.Context, nodes []string) error {
	if err := c.Docker.Command(append([]string{"start"}, nodes...)...).Run(ctx); err != nil {
		return err
	}
	if err := c.kind("export", "kubeconfig", "--name", layout.ClusterName, "--kubeconfig", c.Layout.Kubeconfig()).Run(ctx); err != nil {
		return err
	}
	return kube.Until(ctx, 60*time.Second, time.Second, func(ctx context.Context) error {
		if !c.Kube.Ready(ctx) {
			return errors.New("the API server does not answer")
		}
		return nil
	})
}

func (c Cluster) create(ctx context.Context, config string, own bool) error {
	r := Record{Checkout: c.Layout.Root, Config: config, Own: own}
	if err := r.write(c.Layout); err != nil {
		return err
	}
	// Nothing uses the volumes of an earlier cluster, and nobody can unseal its Vault.
	if err := os.RemoveAll(c.Layout.Machine("volumes")); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Layout.Machine("volumes"), 0o755); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Layout.Cluster(), 0o755); err != nil {
		return err
	}
	if err := c.Docker.EnsureNetwork(ctx); err != nil {
		return err
	}
	if err := c.kind("create", "cluster", "--config", "-", "--kubeconfig", c.Layout.Kubeconfig()).
		WithStdin(strings.NewReader(config)).Run(ctx); err != nil {
		return err
	}
	if err := c.network(ctx, own); err != nil {
		return err
	}
	if err := c.Kube.Command("wait", "node", "--all", "--for=condition=Ready", "--timeout=2m").Run(ctx); err != nil {
		return err
	}
	r.Complete = true
	return r.write(c.Layout)
}

// Delete removes the cluster and its volumes, whatever state it is in.
func (c Cluster) Delete(ctx context.Context) error {
	image, err := c.image(ctx)
	if err != nil {
		return err
	}
	// After a client was killed, the daemon may still be creating a container. It is listed, but
	// its removal fails with "no such container" for a while.
	if err := kube.Until(ctx, time.Minute, time.Second, func(ctx context.Context) error {
		nodes, err := c.Nodes(ctx)
		if err != nil || len(nodes) == 0 {
			return err
		}
		// --volumes: kind's nodes keep /var in anonymous volumes.
		if err := c.Docker.Command(append([]string{"rm", "--force", "--volumes"}, nodes...)...).Run(ctx); err != nil {
			return err
		}
		if nodes, err = c.Nodes(ctx); err == nil && len(nodes) > 0 {
			err = fmt.Errorf("node containers still exist: %s", strings.Join(nodes, ", "))
		}
		return err
	}); err != nil || image == "" || os.Geteuid() == 0 {
		return err
	}
	// Files in volumes belong to the users of pods. Only root can remove them, as in a container.
	return c.Docker.Command("run", "--rm", "--network", "none", "--volume", c.Layout.Machine("volumes")+":"+VolumesInNode,
		"--entrypoint", "find", image, VolumesInNode, "-mindepth", "1", "-delete").Run(ctx)
}

// image returns the image of the nodes. Empty: there are no nodes.
func (c Cluster) image(ctx context.Context) (string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) == 0 {
		return "", err
	}
	return c.Docker.Command("inspect", "--format", "{{.Config.Image}}", nodes[0]).Output(ctx)
}

// RemoveState removes the state of the cluster outside Docker.
func RemoveState(l layout.Layout) error {
	return errors.Join(os.RemoveAll(l.Machine()), os.RemoveAll(l.Cluster()))
}
