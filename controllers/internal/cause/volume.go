package cause

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// claimGrace is longer than clouds usually take to provide a volume.
const claimGrace = 30 * time.Second

// OfClaim returns why a claim has no volume. A claim that waits for its first pod, because its
// storage class uses WaitForFirstConsumer, is no problem.
func OfClaim(claim *corev1.PersistentVolumeClaim, lookup Lookup, now time.Time) Cause {
	if claim.Status.Phase != corev1.ClaimPending || now.Sub(claim.CreationTimestamp.Time) < claimGrace {
		return Cause{}
	}
	// While a provisioner fails, events that it is working appear between those about its failures.
	event := lookup.latest(claim, func(e corev1.Event) bool { return !slices.Contains(provisioning, e.Reason) })
	if event == nil {
		event = lookup.latest(claim, func(corev1.Event) bool { return true })
	}
	if event == nil || slices.Contains(waitingForPod, event.Reason) || event.Reason == "ProvisioningSucceeded" {
		return Cause{}
	}
	next := "see `kubectl describe pvc " + claim.Name + "`"
	switch {
	case strings.Contains(event.Message, "exceeded quota"):
		next = "raise the ResourceQuota for storage, or free some of it"
	case event.Reason == "FailedBinding" || strings.Contains(event.Message, "storageclass.storage.k8s.io"):
		next = "create that StorageClass, or a default one; or delete this SecureNotes and the empty claim, and create the SecureNotes with another spec.database.embedded.storage.storageClassName"
	case slices.Contains(provisioning, event.Reason):
		next = "check whether the provisioner of the StorageClass runs"
	}
	return Cause{
		Reason: v1alpha1.ReasonVolumePending, Next: next,
		Message: "PersistentVolumeClaim " + claim.Name + " has no volume: " + Sanitize(event.Message),
	}
}

var (
	// waitingForPod are the reasons of events of a claim that waits for a pod.
	waitingForPod = []string{"WaitForFirstConsumer", "WaitForPodScheduled"}
	// provisioning are the reasons of events that report that the volume is being provided.
	provisioning = []string{"Provisioning", "ExternalProvisioning"}
)
