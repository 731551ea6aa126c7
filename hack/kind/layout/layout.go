// Package layout knows where everything lies: the checkout, its .cluster directory, the cache that
// outlives both, and what belongs to this machine rather than to one checkout.
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

// RunDir holds the socket and the records of a Docker daemon that we started. It is short because a
// Unix socket's path is limited to 108 bytes, and goes with a reboot, as the daemon does.
const RunDir = "/run/securenotes-docker"

// Layout is resolved once, at start.
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

// Cluster is the checkout's own state: kubeconfig, certificates, Vault's unseal key.
func (l Layout) Cluster(elem ...string) string {
	return filepath.Join(append([]string{l.Root, ".cluster"}, elem...)...)
}

// Machine is state of the one cluster that a machine has, whichever checkout made it. It is outside
// the checkout so that removing the checkout does not hide what is still running.
func (l Layout) Machine(elem ...string) string {
	return filepath.Join(append([]string{l.Cache, "clusters", ClusterName}, elem...)...)
}

// Kubeconfig of the cluster.
func (l Layout) Kubeconfig() string { return l.Cluster("kubeconfig") }

// CA is the certificate that everything in the cluster is verified with.
func (l Layout) CA() string { return l.Cluster("ca.crt") }

// RunEnv tells tests and people how to reach what runs.
func (l Layout) RunEnv() string { return l.Cluster("run.env") }

// DockerData is the data root of a Docker daemon that we started: kept, because the node image is in it.
func (l Layout) DockerData() string { return filepath.Join(l.Cache, "docker") }

// Program is one of the programs that people and tests use with the cluster.
func (l Layout) Program(name string) string { return l.Cluster("bin", name) }

// Pulled holds what came out of registries: archives of images, and kubectl.
func (l Layout) Pulled() string { return filepath.Join(l.Cache, "pulled") }

// Made holds the images that hack/offline has made.
func (l Layout) Made() string { return filepath.Join(l.Cache, "images") }

// FileName makes a file name of an image's name.
func FileName(image string) string {
	return strings.NewReplacer("/", "-", ":", "-", "@", "-").Replace(image)
}
