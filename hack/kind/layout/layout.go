// Package layout has the paths of all files: the checkout, its .cluster directory, the cache, and
// the state of the machine that is independent of a checkout.
package layout

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ClusterName is the name of the kind cluster, of its Docker network and of its cgroup.
const ClusterName = "securenotes"

// RunDir has the socket and the records of a Docker daemon that we started. It is short because the
// path of a Unix socket has at most 108 bytes. It is removed by a reboot, like the daemon.
const RunDir = "/run/securenotes-docker"

// Layout is resolved once, at the start.
type Layout struct {
	Root  string // the checkout
	Cache string // built tools and images, shared by all checkouts
}

// Find resolves the layout from the working directory and the environment.
func Find() (Layout, error) {
	root, err := findRoot()
	if err != nil {
		return Layout{}, err
	}
	cache := os.Getenv("SECURENOTES_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Layout{}, fmt.Errorf("no home directory for the cache; set SECURENOTES_CACHE: %w", err)
		}
		cache = filepath.Join(home, ".cache", "securenotes")
	}
	if cache, err = filepath.Abs(cache); err != nil {
		return Layout{}, err
	}
	return Layout{Root: root, Cache: cache}, os.MkdirAll(cache, 0o755)
}

func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(b), "module github.com/securenotes/securenotes\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run this inside a checkout of SecureNotes")
		}
		dir = filepath.Dir(dir)
	}
}

// Cluster returns a path in the checkout's own state: kubeconfig, certificates, Vault's unseal key.
func (l Layout) Cluster(elem ...string) string {
	return filepath.Join(append([]string{l.Root, ".cluster"}, elem...)...)
}

// Machine returns a path in the state of the machine's only cluster, whichever checkout created it.
// It is outside the checkout, so that a cluster can still be found when its checkout is deleted.
func (l Layout) Machine(elem ...string) string {
	return filepath.Join(append([]string{l.Cache, "clusters", ClusterName}, elem...)...)
}

// Kubeconfig returns the path of the cluster's kubeconfig.
func (l Layout) Kubeconfig() string { return l.Cluster("kubeconfig") }

// CA returns the path of the certificate that verifies all servers in the cluster.
func (l Layout) CA() string { return l.Cluster("ca.crt") }

// RunEnv returns the path of a file with the addresses of everything that runs, for tests and
// users.
func (l Layout) RunEnv() string { return l.Cluster("run.env") }

// DockerData returns the data root of a Docker daemon that we started. It is kept, because it has
// the node image.
func (l Layout) DockerData() string { return filepath.Join(l.Cache, "docker") }

// Program returns the path of a program that users and tests use with the cluster.
func (l Layout) Program(name string) string { return l.Cluster("bin", name) }

// Pulled returns the directory of what was pulled: archives of images, and kubectl.
func (l Layout) Pulled() string { return filepath.Join(l.Cache, "pulled") }

// Made returns the directory of the images that hack/offline has built.
func (l Layout) Made() string { return filepath.Join(l.Cache, "images") }

// FileName returns a file name for an image's name.
func FileName(image string) string {
	return strings.NewReplacer("/", "-", ":", "-", "@", "-").Replace(image)
}
