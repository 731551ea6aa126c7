package operand

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// VolumeClaim returns the embedded database's PersistentVolumeClaim, or nil with PostgreSQL. It has
// no owner reference, because it outlives the object with deletionPolicy Retain. With Delete, the
// finalizer deletes it.
func VolumeClaim(sn *v1alpha1.SecureNotes, deploymentID string) *corev1.PersistentVolumeClaim {
	if !IsEmbedded(sn) {
		return nil
	}
	size, class := defaultStorageSize, ""
	if db := sn.Spec.Database; db != nil && db.Embedded != nil && db.Embedded.Storage != nil {
		size, class = cmp.Or(db.Embedded.Storage.Size, defaultStorageSize), db.Embedded.Storage.StorageClassName
	}
	quantity, err := readQuantity(size)
	if err != nil {
		// An older schema may have allowed it. It counts as unset.
		quantity = resource.MustParse(defaultStorageSize)
	}
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: meta(sn, ClaimName(sn.Name), ComponentAPI),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{
				Requests: corev1.ResourceList{corev1.ResourceStorage: quantity},
			},
		},
	}
	claim.OwnerReferences = nil
	claim.Labels[LabelOwner] = sn.Name
	delete(claim.Labels, LabelInstance)
	claim.Annotations = map[string]string{
		AnnotationDeploymentID: deploymentID,
		// Tools that manage the object nevertheless must keep the claim.
		"argocd.argoproj.io/sync-options":   "Prune=false,Delete=false",
		"helm.sh/resource-policy":           "keep",
		"kustomize.toolkit.fluxcd.io/prune": "disabled",
	}
	if class != "" {
		claim.Spec.StorageClassName = &class
	}
	return claim
}
