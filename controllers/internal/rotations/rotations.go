// Package rotations answers the questions about KeyRotations that more than one controller asks:
// has one ended, is one blocked, which is the newest version, which may be deleted. Start with
// [List] and [Ended].
package rotations

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// Ended reports whether a rotation is Complete or Failed, or had ended before it was restored from
// a backup.
func Ended(kr *v1alpha1.KeyRotation) bool {
	return Complete(kr) || Failed(kr) || IsTrue(kr, v1alpha1.ConditionRestored)
}

// Complete reports whether a rotation has succeeded.
func Complete(kr *v1alpha1.KeyRotation) bool { return IsTrue(kr, v1alpha1.ConditionComplete) }

// Failed reports whether a rotation has failed.
func Failed(kr *v1alpha1.KeyRotation) bool { return IsTrue(kr, v1alpha1.ConditionFailed) }

// Started reports whether a rotation has recorded that it starts. It may still have to yield its
// turn to another one.
func Started(kr *v1alpha1.KeyRotation) bool { return kr.Status.StartTime != nil }

// TurnCertain reports whether it is certain that no other rotation of the SecureNotes runs, and
// that no restore does. Only then does a rotation change anything. The number of shards says so: it
// is 0 from the start of an attempt until then.
func TurnCertain(kr *v1alpha1.KeyRotation) bool {
	return Started(kr) && kr.Status.Shards > 0 && kr.Status.FromVersion != nil
}

// Compromise reports whether the reason of a rotation is Compromise.
func Compromise(kr *v1alpha1.KeyRotation) bool { return kr.Spec.Reason == v1alpha1.RotationCompromise }

// Scheduled reports whether the schedule created the rotation.
func Scheduled(kr *v1alpha1.KeyRotation) bool { return kr.Labels[v1alpha1.LabelScheduled] == "true" }

// IsTrue reports whether a condition of a rotation is True.
func IsTrue(kr *v1alpha1.KeyRotation, condition string) bool {
	return meta.IsStatusConditionTrue(kr.Status.Conditions, condition)
}

// HasFinalizer reports whether a rotation has the operator's finalizer.
func HasFinalizer(kr *v1alpha1.KeyRotation) bool {
	return controllerutil.ContainsFinalizer(kr, v1alpha1.Finalizer)
}

// AwaitsRetirement reports whether a complete Compromise has yet to record that the old version is
// retired.
func AwaitsRetirement(kr *v1alpha1.KeyRotation) bool {
	return Compromise(kr) && Complete(kr) && !IsTrue(kr, v1alpha1.ConditionOldVersionRetired)
}

// ByAge compares two rotations: the older one comes first. The name decides if both were created in
// the same second.
func ByAge(a, b *v1alpha1.KeyRotation) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

// NewestVersion returns the newest version of the master key that the SecureNotes has seen or that
// one of its rotations has added. Rotations of an earlier object of the same name do not count.
func NewestVersion(parent *v1alpha1.SecureNotes, all []v1alpha1.KeyRotation) int64 {
	newest := int64(0)
	if key := parent.Status.MasterKey; key != nil {
		newest = max(key.LatestVersion, key.MinDecryptionFloor)
	}
	for i := range all {
		if to := all[i].Status.ToVersion; to != nil && metav1.IsControlledBy(&all[i], parent) {
			newest = max(newest, *to)
		}
	}
	return newest
}

// RestoreVaultAdvice says what to do when Vault has fewer versions of a key than there were.
const RestoreVaultAdvice = "Vault was restored to an earlier state; restore the newer one, because a version that is added instead cannot decrypt what is under the lost one"

// WaitsFor reports whether a rotation waits for the given reason.
func WaitsFor(kr *v1alpha1.KeyRotation, reason string) bool {
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	return c != nil && c.Reason == reason
}

// unblocked are the reasons of Reconciling of a rotation that is not blocked, or whose trouble is
// reported elsewhere.
var unblocked = []string{
	v1alpha1.ReasonQueued, v1alpha1.ReasonSuspended, v1alpha1.ReasonSecureNotesNotFound, v1alpha1.ReasonSecureNotesNotReady,
	v1alpha1.ReasonRotatingKey, v1alpha1.ReasonReencrypting, v1alpha1.ReasonVerifying,
	v1alpha1.ReasonRecreatingAccounts, v1alpha1.ReasonRestartingPods,
}

// Blocked returns the condition that says why a rotation that has not ended is blocked, or nil if
// it makes progress or waits for its turn.
func Blocked(kr *v1alpha1.KeyRotation) *metav1.Condition {
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || slices.Contains(unblocked, c.Reason) {
		return nil
	}
	return c
}

// Prunable returns the ended rotations beyond the newest limit of those that the operator created.
// A rotation that is to be retried has not ended. What counts is the status, which those who may
// edit KeyRotations may not write: a label or a name could have another person's rotation deleted.
func Prunable(all []v1alpha1.KeyRotation, limit int) []v1alpha1.KeyRotation {
	var candidates []v1alpha1.KeyRotation
	for _, kr := range all {
		retried := Failed(&kr) && RetryRequested(&kr)
		if kr.Status.CreatedBy != "" && Ended(&kr) && !retried && kr.DeletionTimestamp == nil {
			candidates = append(candidates, kr)
		}
	}
	slices.SortFunc(candidates, func(a, b v1alpha1.KeyRotation) int { return ByAge(&b, &a) })
	if len(candidates) > 0 && Failed(&candidates[0]) {
		limit = max(limit, 1) // the condition of the SecureNotes refers to it
	}
	if len(candidates) <= limit {
		return nil
	}
	return candidates[limit:]
}
