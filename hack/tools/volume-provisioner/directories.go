package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"
)

// directories makes one directory per volume below root.
type directories struct {
	root     string // where this process sees the shared directory
	nodeRoot string // where every node sees it
}

// Provision makes the directory of a claim. Making it twice is the same as making it once, so a
// retry after a crash needs no memory.
func (d directories) Provision(_ context.Context, o controller.ProvisionOptions) (*corev1.PersistentVolume, controller.ProvisioningState, error) {
	if o.PVC.Spec.Selector != nil {
		return nil, controller.ProvisioningFinished, errors.New("a claim with a label selector cannot be provisioned; remove spec.selector")
	}
	dir := filepath.Join(d.root, o.PVName)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("make the volume's directory: %w", err)
	}
	// kubelet does not apply fsGroup to hostPath volumes, and the umask narrowed the mode above.
	if err := os.Chmod(dir, 0o777); err != nil {
		return nil, controller.ProvisioningFinished, fmt.Errorf("open the volume's directory to non-root pods: %w", err)
	}
	kind := corev1.HostPathDirectory
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: o.PVName},
		Spec: corev1.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: *o.StorageClass.ReclaimPolicy,
			AccessModes:                   o.PVC.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: o.PVC.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeSource: corev1.PersistentVolumeSource{
				HostPath: &corev1.HostPathVolumeSource{Path: filepath.Join(d.nodeRoot, o.PVName), Type: &kind},
			},
		},
	}, controller.ProvisioningFinished, nil
}

// Delete removes a volume's directory, and refuses a path that is not directly below the shared one:
// a PersistentVolume can be edited, and this process may write as root.
func (d directories) Delete(_ context.Context, pv *corev1.PersistentVolume) error {
	if pv.Spec.HostPath == nil {
		return fmt.Errorf("volume %s has no hostPath: it was not made here", pv.Name)
	}
	parent, base := filepath.Split(filepath.Clean(pv.Spec.HostPath.Path))
	if filepath.Clean(parent) != filepath.Clean(d.nodeRoot) || base != pv.Name {
		return fmt.Errorf("volume %s points to %s, which is not its own directory below %s: not deleted", pv.Name, pv.Spec.HostPath.Path, d.nodeRoot)
	}
	return os.RemoveAll(filepath.Join(d.root, base))
}
