// Command offline supports `make run` on a machine without Docker or without a container registry.
// It starts Docker, builds the images of the cluster from Go modules and Debian packages, and
// serves them from a registry on the loopback interface. hack/kind calls it, holds the machine's
// lock while it runs, and does everything else.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
	"github.com/securenotes/securenotes/hack/offline/internal/daemon"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := rootCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "offline",
		Short:         "Docker and images for machines that lack Docker or a registry; bin/kind calls it",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(
		command("docker", "start a Docker daemon, if none answers", (*app).docker),
		command("images", "make the images, print the path of their lock, and serve them until SIGTERM", (*app).images),
		command("revive", "start the Docker daemon again that was started here and died", (*app).revive),
		command("down", "stop the Docker daemon that was started here, and take back what it did to the machine", (*app).down),
	)
	return root
}

func command(use, short string, work func(*app, context.Context) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		l, err := layout.Find()
		if err != nil {
			return err
		}
		say := console.New(cmd.ErrOrStderr())
		tools, err := toolchain.New(say, l.Root, l.Cache)
		if err != nil {
			return err
		}
		return work(&app{Console: say, layout: l, tools: tools, out: cmd.OutOrStdout()}, cmd.Context())
	}}
}

// app is the common state of all subcommands.
type app struct {
	*console.Console
	layout layout.Layout
	tools  *toolchain.Chain
	out    io.Writer
}

func (a *app) docker(ctx context.Context) error {
	return a.Step(ctx, "Docker", func(ctx context.Context) (string, error) {
		return daemon.Ensure(ctx, a.layout, a.Say, a.nocap)
	})
}

func (a *app) revive(ctx context.Context) error {
	return a.Step(ctx, "Docker, to remove it in order", func(ctx context.Context) (string, error) {
		return daemon.Revive(ctx, a.layout, a.nocap)
	})
}

func (a *app) down(ctx context.Context) error { return a.Step(ctx, "Docker", daemon.Stop) }

func (a *app) nocap(ctx context.Context) (string, error) { return a.helper(ctx, "runc-nocap") }

// helper builds one of hack/offline's own small commands into the cache and returns its path. The
// name contains a digest of the source, because a running Docker daemon keeps the path of its
// runtime.
func (a *app) helper(ctx context.Context, command string) (string, error) {
	module := filepath.Join(a.layout.Root, "hack", "offline")
	src, err := os.ReadFile(filepath.Join(module, "cmd", command, "main.go"))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(src)
	dir := filepath.Join(a.layout.Cache, command, hex.EncodeToString(sum[:])[:12])
	path := filepath.Join(dir, command)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	defer func() { _ = os.Remove(tmp) }()
	if err := proc.New("go", "build", "-mod=readonly", "-ldflags", "-s -w", "-o", tmp, "./cmd/"+command).
		In(module).WithEnv(toolchain.BuildEnv()...).Run(ctx); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
}
