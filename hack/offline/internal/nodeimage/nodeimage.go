// Package nodeimage builds a kind node image from Debian and the programs of hack/tools, for
// machines that reach no registry. The containerd of the node image already contains the control
// plane's images, so a cluster starts without pulling anything.
package nodeimage

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/securenotes/securenotes/hack/kind/console"
	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// recipe must change when the steps below change but files and tools do not.
const recipe = "1"

//go:embed files
var files embed.FS

// Builder builds the image.
type Builder struct {
	Say    *console.Console
	Layout layout.Layout
	Tools  *toolchain.Chain
	Helper func(ctx context.Context, command string) (string, error) // builds one of hack/offline's own commands
}

// Tag returns a tag that depends on everything that goes into the image.
func (b Builder) Tag() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, recipe, suite, packages)
	for _, p := range toolchain.ForNodeImage {
		_, _ = fmt.Fprintln(h, b.Tools.Path(p)) // the path contains the tool's digest
	}
	err := fs.WalkDir(files, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := files.ReadFile(p)
		_, _ = fmt.Fprintf(h, "%s\n%s\n", p, data)
		return err
	})
	if err != nil {
		return "", err
	}
	for _, c := range []string{"pause", "runc-nocap"} {
		src, err := os.ReadFile(filepath.Join(b.Layout.Root, "hack", "offline", "cmd", c, "main.go"))
		if err != nil {
			return "", err
		}
		_, _ = h.Write(src)
	}
	return b.Tools.Version(toolchain.Kubelet) + "-" + hex.EncodeToString(h.Sum(nil))[:12], nil
}

// Make builds the image in an empty directory.
func (b Builder) Make(ctx context.Context, work string) (v1.Image, error) {
	if err := b.needsRoot(); err != nil {
		return nil, err
	}
	if err := debian.Ensure(ctx, b.Say.Say, "runc"); err != nil {
		return nil, err
	}
	root := filepath.Join(work, "rootfs")
	if err := b.unpackDebian(ctx, root); err != nil {
		return nil, err
	}
	b.Say.Say("installing Kubernetes and containerd into it")
	if err := b.install(ctx, root); err != nil {
		return nil, err
	}
	b.Say.Say("loading the control plane's images into it")
	if err := b.preload(ctx, root, work); err != nil {
		return nil, err
	}
	b.Say.Say("packing the node image")
	layer := filepath.Join(work, "layer.tar")
	if err := proc.New("tar", "-C", root, "-cf", layer, ".").Run(ctx); err != nil {
		return nil, err
	}
	return images.FromLayer(layer, v1.Config{Entrypoint: []string{"/usr/local/bin/entrypoint", "/sbin/init"}, Env: []string{"container=docker"}})
}

func (b Builder) needsRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("building a node image needs root, because it unpacks a Debian system: run this as root, or on a machine that reaches a registry with kindest/node")
	}
	return nil
}
