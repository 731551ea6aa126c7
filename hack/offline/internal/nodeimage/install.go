package nodeimage

import (
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// install copies programs, units and settings to the paths that kind and kubeadm expect.
func (b Builder) install(ctx context.Context, root string) error {
	at := func(p string) string { return filepath.Join(root, p) }
	for _, dir := range []string{"opt/cni", "kind/manifests", "etc/cni/net.d", "etc/containerd", "etc/securenotes", "etc/systemd/system/multi-user.target.wants"} {
		if err := os.MkdirAll(at(dir), 0o755); err != nil {
			return err
		}
	}
	nocap, err := b.Helper(ctx, "runc-nocap")
	if err != nil {
		return err
	}
	for to, from := range map[string]string{
		"usr/local/bin/containerd":              b.Tools.Path(toolchain.Containerd),
		"usr/local/bin/ctr":                     b.Tools.Path(toolchain.Ctr),
		"usr/local/bin/containerd-shim-runc-v2": b.Tools.Path(toolchain.Shim),
		"usr/local/bin/runc-nocap":              nocap,
		"usr/bin/kubeadm":                       b.Tools.Path(toolchain.Kubeadm),
		"usr/bin/kubelet":                       b.Tools.Path(toolchain.Kubelet),
		"usr/bin/kubectl":                       b.Tools.Path(toolchain.Kubectl),
	} {
		if err := copyFile(at(to), from); err != nil {
			return err
		}
	}
	for to, f := range map[string]struct {
		name string
		mode os.FileMode
	}{
		"etc/containerd/config.toml":            {"containerd.toml", 0o644},
		"etc/systemd/system/containerd.service": {"containerd.service", 0o644},
		"etc/systemd/system/kubelet.service":    {"kubelet.service", 0o644},
		"etc/systemd/system/pod-routes.service": {"pod-routes.service", 0o644},
		"usr/local/bin/entrypoint":              {"entrypoint", 0o755},
	} {
		data, err := files.ReadFile("files/" + f.name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(at(to), data, f.mode); err != nil {
			return err
		}
	}
	for link, to := range map[string]string{
		"etc/systemd/system/multi-user.target.wants/containerd.service": "/etc/systemd/system/containerd.service",
		"etc/systemd/system/multi-user.target.wants/kubelet.service":    "/etc/systemd/system/kubelet.service",
		"etc/systemd/system/multi-user.target.wants/pod-routes.service": "/etc/systemd/system/pod-routes.service",
		"opt/cni/bin": "/usr/lib/cni",
	} {
		if err := os.Symlink(to, at(link)); err != nil {
			return err
		}
	}
	// kind reads the version from this file. Each node must have its own machine id.
	if err := os.WriteFile(at("kind/version"), []byte(b.Tools.Version(toolchain.Kubelet)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(at("etc/machine-id"), nil, 0o444)
}

func copyFile(to, from string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := out.Close(); err == nil {
			err = cerr
		}
	}()
	_, err = io.Copy(out, in)
	return err
}
