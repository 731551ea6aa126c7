package securenotes

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// volumeSize returns the size that a claim's volume has: what the claim requests, or less where it
// could not be expanded to that. Zero: there is no volume yet.
func volumeSize(claim *corev1.PersistentVolumeClaim) resource.Quantity {
	requested, capacity := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	if capacity.Cmp(requested) < 0 {
		return capacity
	}
	return requested
}

// keepRequest leaves the request of an existing claim as it is where the volume has the wanted size
// already. Kubernetes does not let a request that failed be lowered to what the volume has.
func keepRequest(desired, existing *corev1.PersistentVolumeClaim) {
	wanted, has := desired.Spec.Resources.Requests[corev1.ResourceStorage], volumeSize(existing)
	if requested := existing.Spec.Resources.Requests[corev1.ResourceStorage]; requested.Cmp(wanted) > 0 && wanted.Cmp(has) <= 0 {
		desired.Spec.Resources.Requests[corev1.ResourceStorage] = requested
	}
}

// sizeAdvice says what to do where the API server refuses the claim's new size. Empty: the size is
// not what it refuses.
func sizeAdvice(desired, existing *corev1.PersistentVolumeClaim) string {
	wanted, has := desired.Spec.Resources.Requests[corev1.ResourceStorage], volumeSize(existing)
	requested := existing.Spec.Resources.Requests[corev1.ResourceStorage]
	switch {
	case wanted.Cmp(requested) == 0:
		return ""
	case !has.IsZero():
		return fmt.Sprintf("; to stay with the volume as it is, set spec.database.embedded.storage.size back to %s", sizeText(has))
	case existing.Status.Phase == corev1.ClaimPending:
		return fmt.Sprintf("; PersistentVolumeClaim %s has no volume yet: delete it, and it is created again with the new size", existing.Name)
	default:
		return ""
	}
}

// sizeText writes a size in the notation of status.volumeSize.
func sizeText(size resource.Quantity) string {
	if size.IsZero() {
		return ""
	}
	return resource.NewQuantity(size.Value(), resource.BinarySI).String()
}
