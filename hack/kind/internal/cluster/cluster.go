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

// Nodes lists the node containers, running or not.
func (c Cluster) Nodes(ctx context.Context) ([]string, error) {
	out, err := c.Docker.Command("ps", "--all", "--filter", "label=io.x-k8s.kind.cluster="+layout.ClusterName, "--format", "{{.Names}}").Output(ctx)
	if err != nil {
		return nil, err
	}
	nodes := strings.Fields(out)
	slices.Sort(nodes)
	return nodes, nil
}

// Ensure leaves a cluster that answers, made of the given node image. image is empty for kind's
// default; own tells that it is ours and brings no pod network.
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
		c.Say.Say("making the cluster anew: %s", reason)
		if err := c.Delete(ctx); err != nil {
			return "", err
		}
	}
	return "1 control plane, 2 workers", c.create(ctx, want, own)
}

// unusable says why the cluster that is there has to go; empty when it may stay.
func (c Cluster) unusable(ctx context.Context, want string, nodes []string) (string, error) {
	r, found, err := ReadRecord(c.Layout)
	if err != nil {
		return "", err
	}
	if !found && c.Docker.Ours {
		return "it is left over from an earlier cluster", nil // our daemon holds nothing else
	}
	if !found {
		return "", fmt.Errorf("a kind cluster named %q is there that no checkout of SecureNotes made; remove it (kind delete cluster --name %s) or use another machine", layout.ClusterName, layout.ClusterName)
	}
	// Whether it is another checkout's was asked before the daemon was started: a daemon that comes
	// back starts the nodes that died with it.
	switch {
	case r.Checkout != c.Layout.Root:
		return "it was of the checkout " + r.Checkout + " and died with its Docker daemon", nil
	case !r.Complete:
		return "an earlier run ended while it was being made", nil
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
		return "it does not come back", nil
	}
	return "", nil
}

// wake starts nodes that were stopped, by a reboot or by hand, and waits for their API server.
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
	// Volumes of an earlier cluster would be found by nothing, and Vault's would be sealed for good.
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
	// A client that was killed may have left the daemon busy creating a container: it is listed, but
	// for the moment "no such container" to whoever wants to remove it.
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
			err = fmt.Errorf("node containers are still there: %s", strings.Join(nodes, ", "))
		}
		return err
	}); err != nil || image == "" || os.Geteuid() == 0 {
		return err
	}
	// What pods wrote into volumes belongs to their users: only root may remove it, as in a
	// container.
	return c.Docker.Command("run", "--rm", "--network", "none", "--volume", c.Layout.Machine("volumes")+":"+VolumesInNode,
		"--entrypoint", "find", image, VolumesInNode, "-mindepth", "1", "-delete").Run(ctx)
}

// image is the one that the nodes run; empty when there are no nodes.
func (c Cluster) image(ctx context.Context) (string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil || len(nodes) == 0 {
		return "", err
	}
	return c.Docker.Command("inspect", "--format", "{{.Config.Image}}", nodes[0]).Output(ctx)
}

// RemoveState removes what this machine keeps of the cluster outside Docker.
func RemoveState(l layout.Layout) error {
	return errors.Join(os.RemoveAll(l.Machine()), os.RemoveAll(l.Cluster()))
}
