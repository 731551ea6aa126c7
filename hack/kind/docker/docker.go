// Package docker finds a Docker daemon and uses it. hack/offline starts one if none answers.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

const (
	network = layout.ClusterName
	// Bridge is the interface of the cluster's network on this machine.
	Bridge = "br-securenotes"
	// subnet is part of 198.18.0.0/15 (RFC 2544, test networks), which no LAN uses.
	subnet = Addresses + "0/24"
	// Addresses is the prefix of every address in it. The rules of a published port name single
	// addresses.
	Addresses = "198.18.104."
	// label marks everything that we create in a daemon.
	label = "dev.securenotes.cluster=" + layout.ClusterName
)

// Socket is the socket of a daemon that hack/offline started.
var Socket = filepath.Join(layout.RunDir, "docker.sock")

// Docker is one daemon.
type Docker struct {
	Ours bool // started by hack/offline, now or in an earlier run
	env  []string
}

// Env returns the environment that makes docker and kind use this daemon and our network.
func (d Docker) Env() []string {
	return append([]string{"KIND_EXPERIMENTAL_DOCKER_NETWORK=" + network}, d.env...)
}

// Command returns a docker command for this daemon.
func (d Docker) Command(args ...string) *proc.Cmd {
	return proc.New("docker", args...).WithEnv(d.Env()...)
}

// Find returns a daemon that answers: that of hack/offline, or that of the environment.
func Find(ctx context.Context) (Docker, bool) {
	if !debian.Has("docker") {
		return Docker{}, false
	}
	if _, err := os.Stat(Socket); err == nil {
		if d := Started(); d.Answers(ctx) {
			return d, true
		}
	}
	if d := (Docker{}); d.Answers(ctx) {
		return d, true
	}
	return Docker{}, false
}

// Started returns the daemon that hack/offline starts.
func Started() Docker {
	return Docker{Ours: true, env: []string{"DOCKER_HOST=unix://" + Socket, "DOCKER_CONTEXT="}}
}

// Answers reports whether the daemon answers.
func (d Docker) Answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return d.Command("version", "--format", "{{.Server.Version}}").Run(ctx) == nil
}

// Possible returns an error if no daemon answers and none may be started.
func Possible(ctx context.Context) error {
	if _, ok := Find(ctx); ok || os.Geteuid() == 0 {
		return nil
	}
	return errors.New("no Docker daemon answers and only root may start one; start Docker (and join its group), or run this as root")
}

// EnsureNetwork creates the network of the cluster's nodes.
func (d Docker) EnsureNetwork(ctx context.Context) error {
	if d.Command("network", "inspect", network).Run(ctx) == nil {
		return nil
	}
	// IPv4 only and with a bridge name of our own, so that Docker's rules for it can be recognised.
	return d.Command("network", "create", "--driver", "bridge", "--subnet", subnet, "--label", label,
		"--opt", "com.docker.network.bridge.name="+Bridge, network).Run(ctx)
}

// RemoveNetwork removes the network if it is ours.
func (d Docker) RemoveNetwork(ctx context.Context) error {
	// A daemon that was restarted after a crash forgets the host's ends of its containers' links.
	links := Links()
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
	return RemoveLinks(ctx, links)
}

// HasImage reports whether the daemon has an image.
func (d Docker) HasImage(ctx context.Context, ref string) bool {
	return d.Command("image", "inspect", ref).Run(ctx) == nil
}

// Pull pulls an image and gives it another name, which keeps it.
func (d Docker) Pull(ctx context.Context, from, as string) error {
	if err := d.Command("pull", "--quiet", from).Run(ctx); err != nil || from == as {
		return err
	}
	if err := d.Command("tag", from, as).Run(ctx); err != nil {
		return err
	}
	return d.Command("image", "rm", from).Run(ctx)
}

// CopyOut copies a file out of an image.
func (d Docker) CopyOut(ctx context.Context, image, from, to string) error {
	id, err := d.Command("create", "--label", label, image).Output(ctx)
	if err != nil {
		return err
	}
	err = d.Command("cp", id+":"+from, to).Run(ctx)
	return errors.Join(err, d.Command("rm", "--volumes", id).Run(context.WithoutCancel(ctx)))
}

// RemoveImages removes the images of a repository that we added to a daemon.
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
