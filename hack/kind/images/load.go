package images

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/docker"
	"github.com/securenotes/securenotes/hack/kind/layout"
	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Loader loads images on the nodes of the cluster.
type Loader struct {
	Layout layout.Layout
	Docker docker.Docker
	Kind   string   // path of the program
	Nodes  []string // node containers
}

// Load loads the images that a node does not have.
func (l Loader) Load(ctx context.Context, list ...Source) (note string, err error) {
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
	args := []string{"load", "image-archive", "--name", layout.ClusterName}
	for _, i := range missing {
		archive, err := i.archive(dir)
		if err != nil {
			return "", err
		}
		args = append(args, archive)
	}
	if err := proc.New(l.Kind, args...).WithEnv(l.Docker.Env()...).Run(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d images loaded", len(missing), len(list)), nil
}

func (l Loader) missing(ctx context.Context, list []Source) ([]Source, error) {
	lacking := map[string]bool{}
	refs := make([]string, len(list))
	for n, i := range list {
		var err error
		if refs[n], err = i.Ref(); err != nil {
			return nil, err
		}
	}
	for _, node := range l.Nodes {
		out, err := l.Docker.Command("exec", node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet").Output(ctx)
		if err != nil {
			return nil, err
		}
		has := strings.Fields(out)
		for _, ref := range refs {
			if !slices.Contains(has, ref) {
				lacking[ref] = true
			}
		}
	}
	var missing []Source
	for n, i := range list {
		if lacking[refs[n]] {
			missing = append(missing, i)
		}
	}
	return missing, nil
}
