package nodeimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

const suite = "bookworm"

// packages of the node: what kubelet, kube-proxy, kubeadm and kind call.
const packages = "systemd,systemd-sysv,iproute2,iptables,nftables,conntrack,ethtool,socat,kmod,procps,hostname," +
	"ca-certificates,runc,containernetworking-plugins,libseccomp2"

// unpackDebian lays a Debian root file system down, from the cache when it holds one.
func (b Builder) unpackDebian(ctx context.Context, root string) error {
	sum := sha256.Sum256([]byte(suite + packages))
	cached := filepath.Join(b.Layout.Cache, "debian", suite+"-"+hex.EncodeToString(sum[:])[:12]+".tar")
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	if _, err := os.Stat(cached); err == nil {
		b.Say.Say("unpacking Debian %s", suite)
		return proc.New("tar", "-C", root, "-xf", cached).Run(ctx)
	}
	b.Say.Say("fetching Debian %s with debootstrap", suite)
	if err := proc.New("debootstrap", "--variant=minbase", "--include="+packages, suite, root).Run(ctx); err != nil {
		return fmt.Errorf("%w\n      see %s/debootstrap/debootstrap.log", err, root)
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
	if err := os.MkdirAll(filepath.Dir(cached), 0o755); err != nil {
		return err
	}
	if err := proc.New("tar", "-C", root, "-cf", cached+".tmp", ".").Run(ctx); err != nil {
		return err
	}
	return os.Rename(cached+".tmp", cached)
}
