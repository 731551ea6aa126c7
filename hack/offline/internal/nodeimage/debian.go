package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/debian"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

const suite = "bookworm"

// packages are the node's packages: the programs that kubelet, kube-proxy, kubeadm and kind call.
const packages = "systemd,systemd-sysv,iproute2,iptables,nftables,conntrack,ethtool,socat,kmod,procps,hostname," +
	"ca-certificates,runc,containernetworking-plugins,libseccomp2"

// debianArchive returns the path of the Debian root file system in the cache.
func (b Builder) debianArchive() string {
	sum := sha256.Sum256([]byte(suite + packages))
	return filepath.Join(b.Layout.Cache, "debian", suite+"-"+hex.EncodeToString(sum[:])[:12]+".tar")
}

// FetchDebian stores a Debian root file system in the cache, unless it is already there.
func (b Builder) FetchDebian(ctx context.Context) error {
	archive := b.debianArchive()
	if _, err := os.Stat(archive); err == nil {
		return nil
	}
	if err := b.needsRoot(); err != nil {
		return err
	}
	if err := debian.Ensure(ctx, b.Say.Say, "debootstrap"); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return err
	}
	root, err := os.MkdirTemp(filepath.Dir(archive), ".work-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(root) }()
	if err := os.Chmod(root, 0o755); err != nil { // root becomes the root directory of the nodes
		return err
	}
	b.Say.Say("fetching Debian %s with debootstrap", suite)
	if err := proc.New("debootstrap", "--variant=minbase", "--include="+packages, suite, root).Run(ctx); err != nil {
		said, _ := os.ReadFile(filepath.Join(root, "debootstrap", "debootstrap.log"))
		return fmt.Errorf("%w\n%s", err, said)
	}
	for _, waste := range []string{"var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/locale", "usr/share/man"} {
		dir := filepath.Join(root, waste)
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	tmp := archive + ".tmp"
	if err := proc.New("tar", "-C", root, "-cf", tmp, ".").Run(ctx); err != nil {
		return err
	}
	return os.Rename(tmp, archive)
}

// unpackDebian unpacks the Debian root file system into root.
func (b Builder) unpackDebian(ctx context.Context, root string) error {
	if err := b.FetchDebian(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	b.Say.Say("unpacking Debian %s", suite)
	return proc.New("tar", "-C", root, "-xf", b.debianArchive()).Run(ctx)
}
