// Package docker finds a Docker daemon or starts one, and stops only the one that it started.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/internal/debian"
	"github.com/securenotes/securenotes/hack/kind/internal/layout"
	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

const (
	network = layout.ClusterName
	bridge  = "br-securenotes"
	// subnet is out of 198.18.0.0/15 (RFC 2544, test networks): nobody's LAN.
	subnet = addresses + "0/24"
	// addresses is what every address in it begins with: a published port's rules name single ones.
	addresses = "198.18.104."
	// label marks what we add to a daemon, ours or not.
	label = "dev.securenotes.cluster=" + layout.ClusterName
)

var socket = filepath.Join(layout.RunDir, "docker.sock")

// Docker talks to one daemon.
type Docker struct {
	Ours bool // started by us, now or by an earlier run
	env  []string
}

// Env is what makes docker and kind talk to this daemon and use our network.
func (d Docker) Env() []string {
	return append([]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK=" + network}, d.env...)
}

// Command is a docker command for this daemon.
func (d Docker) Command(args ...string) *proc.Cmd {
	return proc.New("docker", args...).WithEnv(d.Env()...)
}

// Find returns the daemon that answers: the environment's, or one that an earlier run started.
func Find(ctx context.Context) (Docker, bool) {
	if !debian.Has("docker") {
		return Docker{}, false
	}
	if _, err := os.Stat(socket); err == nil {
		if d := (Docker{Ours: true, env: []string{"DOCKER_HOST=unix://" + socket, "DOCKER_CONTEXT="}}); d.answers(ctx) {
			return d, true
		}
	}
	if d := (Docker{}); d.answers(ctx) {
		return d, true
	}
	return Docker{}, false
}

func (d Docker) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return d.Command("version", "--format", "{{.Server.Version}}").Run(ctx) == nil
}

// Possible fails where no daemon answers and none may be started.
func Possible(ctx context.Context) error {
	if _, ok := Find(ctx); ok || os.Geteuid() == 0 {
		return nil
	}
	return errors.New("no Docker daemon answers and only root may start one; start Docker (and join its group), or run this as root")
}

// Ensure finds a daemon or starts one.
func Ensure(ctx context.Context, l layout.Layout, say func(string, ...any), nocap func(context.Context) (string, error)) (Docker, string, error) {
	if d, ok := Find(ctx); ok {
		if d.Ours {
			return d, "the one that an earlier run started", nil
		}
		return d, "the one that was running", nil
	}
	if err := Possible(ctx); err != nil {
		return Docker{}, "", err
	}
	if err := debian.Ensure(ctx, say, "dockerd", "docker", "runc", "iptables", "nft", "ip"); err != nil {
		return Docker{}, "", err
	}
	// Installing the package starts the daemon where systemd runs.
	if d, ok := Find(ctx); ok {
		return d, "started by the package just installed", nil
	}
	d, err := start(ctx, l, nocap)
	return d, "started, data in " + l.DockerData(), err
}

// EnsureNetwork makes the network of the cluster's nodes.
func (d Docker) EnsureNetwork(ctx context.Context) error {
	if d.Command("network", "inspect", network).Run(ctx) == nil {
		return nil
	}
	// IPv4 only and with a bridge name of our own: what Docker adds for it can be told apart.
	return d.Command("network", "create", "--driver", "bridge", "--subnet", subnet, "--label", label,
		"--opt", "com.docker.network.bridge.name="+bridge, network).Run(ctx)
}

// RemoveNetwork removes the network if it is ours.
func (d Docker) RemoveNetwork(ctx context.Context) error {
	// A daemon that died and was started again forgets the host's ends of its containers' links.
	links := links()
	out, err := d.Command("network", "ls", "--quiet", "--filter", "label="+label).Output(ctx)
	if err != nil {
		return err
	}
	for id := range strings.FieldsSeq(out) {
		if err := d.Command("network", "rm", id).Run(ctx); err != nil {
			return err
		}
	}
	if !d.Ours {
		return nil
	}
	return removeLinks(ctx, links)
}

// HasImage tells whether the daemon holds an image.
func (d Docker) HasImage(ctx context.Context, ref string) bool {
	return d.Command("image", "inspect", ref).Run(ctx) == nil
}

// RemoveImages removes the images of a repository: what we added to somebody else's daemon.
func (d Docker) RemoveImages(ctx context.Context, repository string) error {
	out, err := d.Command("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", "--filter", "reference="+repository).Output(ctx)
	if err != nil {
		return err
	}
	for ref := range strings.FieldsSeq(out) {
		if err := d.Command("image", "rm", ref).Run(ctx); err != nil {
			return fmt.Errorf("remove image %s: %w", ref, err)
		}
	}
	return nil
}
