package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/internal/console"
	"github.com/securenotes/securenotes/hack/kind/internal/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/kube"
	"github.com/securenotes/securenotes/hack/kind/internal/layout"
	"github.com/securenotes/securenotes/hack/kind/internal/proc"
	"github.com/securenotes/securenotes/hack/kind/internal/toolchain"
)

// app is what every subcommand starts from.
type app struct {
	*console.Console
	layout layout.Layout
	tools  *toolchain.Chain
}

func newApp(out io.Writer) (*app, error) {
	l, err := layout.Find()
	if err != nil {
		return nil, err
	}
	say := console.New(out)
	tools, err := toolchain.New(say, l.Root, l.Cache)
	if err != nil {
		return nil, err
	}
	return &app{Console: say, layout: l, tools: tools}, nil
}

func (a *app) kube() kube.Client {
	return kube.Client{Kubectl: a.tools.Path(toolchain.Kubectl), Kubeconfig: a.layout.Kubeconfig()}
}

func (a *app) cluster(d docker.Docker) cluster.Cluster {
	return cluster.Cluster{Say: a.Console, Layout: a.layout, Docker: d, Kind: a.tools.Path(toolchain.Kind), Kube: a.kube()}
}

// helper builds one of hack/kind's own small commands into the cache and returns its path. The name
// holds a digest of the source: a running Docker daemon keeps the path of its runtime.
func (a *app) helper(ctx context.Context, command string) (string, error) {
	module := filepath.Join(a.layout.Root, "hack", "kind")
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
