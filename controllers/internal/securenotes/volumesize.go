package securenotes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// volumeSize returns the size of a claim's volume: the request, or less if the volume could not be
// expanded. It is zero if there is no volume yet.
func volumeSize(claim *corev1.PersistentVolumeClaim) resource.Quantity {
	requested, capacity := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	if capacity.Cmp(requested) < 0 {
		return capacity
	}
	return requested
}

// keepRequest keeps the request of an existing claim if the volume has the wanted size already.
// Kubernetes does not permit lowering a failed request to the size of the volume.
func keepRequest(desired, existing *corev1.PersistentVolumeClaim) {
	wanted, has := desired.Spec.Resources.Requests[corev1.ResourceStorage], volumeSize(existing)
	if requested := existing.Spec.Resources.Requests[corev1.ResourceStorage]; requested.Cmp(wanted) > 0 && wanted.Cmp(has) <= 0 {
		desired.Spec.Resources.Requests[corev1.ResourceStorage] = requested
	}
}

// sizeAdvice returns the next step if the API server refuses the claim's new size, in the form of
// an addition to a message. There is none if the refusal is not about the size.
func sizeAdvice(desired, existing *corev1.PersistentVolumeClaim) string {
	wanted, has := desired.Spec.Resources.Requests[corev1.ResourceStorage], volumeSize(existing)
	requested := existing.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case wanted.Cmp(requested) == 0:
		return ""
	case !has.IsZero():
		return fmt.Sprintf("; to keep the volume as it is, set spec.database.embedded.storage.size back to %s", sizeText(has))
	case existing.Status.Phase == corev1.ClaimPending:
		return fmt.Sprintf("; PersistentVolumeClaim %s has no volume yet: delete it, and the operator recreates it with the new size", existing.Name)
	default:
		return ""
	}
}

// sizeText formats a size as status.volumeSize does.
func sizeText(size resource.Quantity) string {
	if size.IsZero() {
		return ""
	}
	return resource.NewQuantity(size.Value(), resource.BinarySI).String()
}
