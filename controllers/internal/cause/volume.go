package cause

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// claimPatience is longer than clouds take to make a volume as a rule.
const claimPatience = 30 * time.Second

// OfClaim returns why a volume is not provided. A claim that waits for its first pod, as its
// storage class asks, is as it should be.
func OfClaim(claim *corev1.PersistentVolumeClaim, look Look, now time.Time) Cause {
	if claim.Status.Phase != corev1.ClaimPending || now.Sub(claim.CreationTimestamp.Time) < claimPatience {
		return Cause{}
	}
	// The notice that a provisioner is at work is repeated between its failures.
	event := look.latest(claim, func(e corev1.Event) bool { return !slices.Contains(atWork, e.Reason) })
	if event == nil {
		event = look.latest(claim, func(corev1.Event) bool { return true })
	}
	if event == nil || slices.Contains(consumers, event.Reason) || event.Reason == "ProvisioningSucceeded" {
		return Cause{}
	}
	next := "see `kubectl describe pvc " + claim.Name + "`"
	switch {
	case strings.Contains(event.Message, "exceeded quota"):
		next = "raise the ResourceQuota for storage, or free some"
	case event.Reason == "FailedBinding" || strings.Contains(event.Message, "storageclass.storage.k8s.io"):
		next = "create that StorageClass, or a default one; or delete this SecureNotes and the claim, which is empty, and create it with another spec.database.embedded.storage.storageClassName"
	case slices.Contains(atWork, event.Reason):
		next = "see whether the provisioner of the StorageClass runs"
	}
	return Cause{
		Reason: v1alpha1.ReasonVolumePending, Next: next,
		Message: "PersistentVolumeClaim " + claim.Name + " gets no volume: " + Words(event.Message),
	}
}

var (
	// consumers are the reasons of events of a claim that waits for a pod.
	consumers = []string{"WaitForFirstConsumer", "WaitForPodScheduled"}
	// atWork are the reasons of events that say that somebody provides the volume.
	atWork = []string{"Provisioning", "ExternalProvisioning"}
)
