package addons

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// StorageImage returns the image of the volume provisioner. It runs as root, because it deletes
// files of any user.
func (a Addons) StorageImage() images.Image {
	return images.Static(toolchain.VolumeProvisioner, a.Tools.Path(toolchain.VolumeProvisioner), "")
}

// Storage installs the default storage class `shared`, whose volumes are available on all nodes.
func (a Addons) Storage(ctx context.Context) (string, error) {
	ref, err := a.StorageImage().Ref()
	if err != nil {
		return "", err
	}
	if err := a.apply(ctx, "storage.yaml", map[string]string{"Image": ref, "VolumesInNode": cluster.VolumesInNode}); err != nil {
		return "", err
	}
	// kind has a class of its own, whose volumes are bound to one node.
	var kinds struct{}
	if found, err := a.Kube.Get(ctx, "default", "storageclass", "standard", &kinds); err != nil {
		return "", err
	} else if found {
		if err := a.Kube.Command("annotate", "storageclass", "standard", "--overwrite", "storageclass.kubernetes.io/is-default-class=false").Run(ctx); err != nil {
			return "", err
		}
	}
	return "volumes are available on all nodes", a.Kube.Rollout(ctx, "volume-provisioner", "deployment/volume-provisioner", 2*time.Minute)
}
