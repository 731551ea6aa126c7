package nodeimage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/proc"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

const registry = "registry.k8s.io/"

// preload imports the images that kubeadm expects into the containerd store of the root file
// system. For this it runs a temporary containerd.
func (b Builder) preload(ctx context.Context, root, work string) error {
	list, err := b.controlPlane(ctx, root)
	if err != nil {
		return err
	}
	archive := filepath.Join(work, "images.tar")
	if err := images.Save(archive, list...); err != nil {
		return err
	}
	defer func() { _ = os.Remove(archive) }()

	// The path of a socket is limited to 108 bytes, and the cache's path may be longer.
	run, err := os.MkdirTemp("", "snode")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(run) }()
	socket, config := filepath.Join(run, "c.sock"), filepath.Join(run, "config.toml")
	settings := fmt.Sprintf(`version = 3
root = %q
state = %q
disabled_plugins = ["io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri"]
[grpc]
  address = %q
`, filepath.Join(root, "var/lib/containerd"), filepath.Join(run, "state"), socket)
	if err := os.WriteFile(config, []byte(settings), 0o600); err != nil {
		return err
	}

	ctx, cancel := context.WithCancel(ctx)
	server := proc.New(b.Tools.Path(toolchain.Containerd), "--config", config).Exec(ctx)
	log, err := os.Create(filepath.Join(run, "log"))
	if err != nil {
		cancel()
		return err
	}
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel() // sends SIGTERM, so that containerd closes its store properly
		_ = server.Wait()
		_ = log.Close()
	}()
	ctr := func(args ...string) *proc.Cmd {
		return proc.New(b.Tools.Path(toolchain.Ctr), append([]string{"--address", socket, "--namespace", "k8s.io"}, args...)...)
	}
	for start := time.Now(); ctr("version").Run(ctx) != nil; time.Sleep(200 * time.Millisecond) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if time.Since(start) > 30*time.Second {
			said, _ := os.ReadFile(log.Name())
			return fmt.Errorf("containerd does not answer within 30 s:\n%s", said)
		}
	}
	return ctr("images", "import", archive).Run(ctx)
}

// controlPlane returns the images that `kubeadm config images list` lists, each a static binary on
// an empty base.
func (b Builder) controlPlane(ctx context.Context, root string) ([]images.Image, error) {
	wanted, err := proc.New(b.Tools.Path(toolchain.Kubeadm), "config", "images", "list",
		"--kubernetes-version", b.Tools.Version(toolchain.Kubeadm)).Output(ctx)
	if err != nil {
		return nil, err
	}
	pause, err := b.Helper(ctx, "pause")
	if err != nil {
		return nil, err
	}
	nft, err := images.WithLibraries(ctx, root, "/usr/sbin/nft") // kube-proxy calls it
	if err != nil {
		return nil, err
	}
	var list []images.Image
	for ref := range strings.FieldsSeq(wanted) {
		repository, tag, _ := strings.Cut(ref, ":")
		img := images.Image{Repository: repository, Tag: tag}
		switch program := strings.TrimPrefix(repository, registry); program {
		case "pause":
			img.Entrypoint = []string{"/pause"}
			img.Files = []images.File{{To: "/pause", From: pause}}
		case "coredns/coredns":
			img.Entrypoint = []string{"/coredns"}
			img.Files = []images.File{{To: "/coredns", From: b.Tools.Path(toolchain.CoreDNS)}}
		case "kube-proxy":
			img.Files = append(nft, images.File{To: "/usr/local/bin/kube-proxy", From: b.Tools.Path(toolchain.Proxy)})
		case "kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd":
			img.Files = []images.File{{To: "/usr/local/bin/" + program, From: b.Tools.Path(toolchain.Program(program))}}
		default:
			return nil, fmt.Errorf("kubeadm needs image %s, which hack/offline cannot build: extend controlPlane", ref)
		}
		list = append(list, img)
	}
	return list, nil
}
