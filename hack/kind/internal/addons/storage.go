package addons

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/hack/kind/images"
	"github.com/securenotes/securenotes/hack/kind/internal/cluster"
	"github.com/securenotes/securenotes/hack/kind/toolchain"
)

// StorageImage runs the volume provisioner; as root, because it deletes what pods of any user wrote.
func (a Addons) StorageImage() images.Image {
	return images.Static(toolchain.VolumeProvisioner, a.Tools.Path(toolchain.VolumeProvisioner), "")
}

// Storage makes the class `shared` the default: volumes that follow their pod to any node.
func (a Addons) Storage(ctx context.Context) (string, error) {
	ref, err := a.StorageImage().Ref()
	if err != nil {
		return "", err
	}
	if err := a.apply(ctx, "storage.yaml", map[string]string{"Image": ref, "VolumesInNode": cluster.VolumesInNode}); err != nil {
		return "", err
	}
	// kind brings a class of its own, whose volumes are bound to one node.
	var kinds struct{}
	if found, err := a.Kube.Get(ctx, "default", "storageclass", "standard", &kinds); err != nil {
		return "", err
	} else if found {
		if err := a.Kube.Command("annotate", "storageclass", "standard", "--overwrite", "storageclass.kubernetes.io/is-default-class=false").Run(ctx); err != nil {
			return "", err
		}
	}
	return "volumes follow their pods", a.Kube.Rollout(ctx, "volume-provisioner", "deployment/volume-provisioner", 2*time.Minute)
}
