package images

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/internal/docker"
	"github.com/securenotes/securenotes/hack/kind/internal/layout"
	"github.com/securenotes/securenotes/hack/kind/internal/proc"
)

// Loader puts images on the nodes of the cluster.
type Loader struct {
	Layout layout.Layout
	Docker docker.Docker
	Kind   string   // path of the program
	Nodes  []string // node containers
}

// Load loads those images that some node lacks.
func (l Loader) Load(ctx context.Context, list ...Image) (note string, err error) {
	missing, err := l.missing(ctx, list)
	if err != nil || len(missing) == 0 {
		return fmt.Sprintf("%d images were on every node", len(list)), err
	}
	if err := os.MkdirAll(l.Layout.Machine(), 0o755); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(l.Layout.Machine(), ".load-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	archive := filepath.Join(dir, "images.tar")
	if err := Save(archive, missing...); err != nil {
		return "", err
	}
	if err := proc.New(l.Kind, "load", "image-archive", archive, "--name", layout.ClusterName).WithEnv(l.Docker.Env()...).Run(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d images loaded", len(missing), len(list)), nil
}

func (l Loader) missing(ctx context.Context, list []Image) ([]Image, error) {
	var missing []Image
	for _, node := range l.Nodes {
		out, err := l.Docker.Command("exec", node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet").Output(ctx)
		if err != nil {
			return nil, err
		}
		has := strings.Fields(out)
		for _, i := range list {
			ref, err := i.Ref()
			if err != nil {
				return nil, err
			}
			if !slices.Contains(has, ref) && !slices.ContainsFunc(missing, func(m Image) bool { return m.Repository == i.Repository }) {
				missing = append(missing, i)
			}
		}
	}
	return missing, nil
}
