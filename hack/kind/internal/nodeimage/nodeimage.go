// Package nodeimage makes a kind node image out of Debian and the programs of hack/tools, for
// machines where no registry offers one. The control plane's images are already in its containerd,
// so a cluster starts without pulling anything.
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

	"github.com/securenotes/securenotes/hack/kind/internal/console"
	"github.com/securenotes/securenotes/hack/kind/internal/debian"
	"github.com/securenotes/securenotes/hack/kind/internal/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/layout"
	"github.com/securenotes/securenotes/hack/kind/internal/proc"
	"github.com/securenotes/securenotes/hack/kind/internal/toolchain"
)

// Repository of the images made here.
const Repository = "securenotes.dev/node"

// recipe changes when the steps below change in a way that the files and tools do not show.
const recipe = "1"

//go:embed files
var files embed.FS

// Builder makes the image.
type Builder struct {
	Say    *console.Console
	Layout layout.Layout
	Tools  *toolchain.Chain
	Helper func(ctx context.Context, command string) (string, error) // builds one of hack/kind's own commands
}

// Ref names the image by all that goes into it.
func (b Builder) Ref() (string, error) {
	h := sha256.New()
	_, _ = fmt.Fprintln(h, recipe, suite, packages)
	for _, p := range toolchain.ForNodeImage {
		_, _ = fmt.Fprintln(h, b.Tools.Path(p)) // the path holds the tool's own digest
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
		src, err := os.ReadFile(filepath.Join(b.Layout.Root, "hack", "kind", "cmd", c, "main.go"))
		if err != nil {
			return "", err
		}
		_, _ = h.Write(src)
	}
	return Repository + ":" + b.Tools.Version(toolchain.Kubelet) + "-" + hex.EncodeToString(h.Sum(nil))[:12], nil
}

// Ensure makes the image known to a Docker daemon: from the daemon itself, from the cache, or anew.
func (b Builder) Ensure(ctx context.Context, d docker.Docker) (ref, note string, err error) {
	if ref, err = b.Ref(); err != nil {
		return "", "", err
	}
	if d.HasImage(ctx, ref) {
		return ref, "was there", nil
	}
	archive := filepath.Join(b.Layout.Cache, "node-image", filepath.Base(ref)+".tar")
	note = "from the cache"
	if _, err := os.Stat(archive); errors.Is(err, fs.ErrNotExist) {
		note = "made"
		if err := b.make(ctx, archive); err != nil {
			return "", "", err
		}
	}
	b.Say.Say("importing the node image into Docker")
	err = d.Command("import", "--change", `ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]`,
		"--change", "ENV container=docker",
		"--change", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", archive, ref).Run(ctx)
	if err != nil {
		return "", "", err
	}
	if d.Ours { // our daemon's data is in the cache: the image need not be kept twice
		_ = os.Remove(archive)
	}
	return ref, note, nil
}

func (b Builder) make(ctx context.Context, archive string) error {
	if os.Geteuid() != 0 {
		return errors.New("a node image of our own takes root (it unpacks a Debian system); run this as root, or where a registry with kindest/node answers")
	}
	if err := debian.Ensure(ctx, b.Say.Say, "debootstrap", "runc"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(archive), ".work-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	root := filepath.Join(work, "rootfs")
	if err := b.unpackDebian(ctx, root); err != nil {
		return err
	}
	b.Say.Say("installing Kubernetes and containerd into it")
	if err := b.install(ctx, root); err != nil {
		return err
	}
	b.Say.Say("loading the control plane's images into it")
	if err := b.preload(ctx, root, work); err != nil {
		return err
	}
	b.Say.Say("writing %s", archive)
	tmp := archive + ".tmp"
	if err := proc.New("tar", "-C", root, "-cf", tmp, ".").Run(ctx); err != nil {
		return err
	}
	return os.Rename(tmp, archive)
}
