package steps

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// AwaitReady returns the steps that wait for the SecureNotes, which exists: it is not suspended,
// has a master key of its own, and its resources, which the Jobs get, can be read.
func AwaitReady[R, O any](parentOf func(O) *v1alpha1.SecureNotes) []Step[R, O] {
	step := func(name string, due func(*v1alpha1.SecureNotes) (Decision, bool)) Step[R, O] {
		return Step[R, O]{Name: name, Due: func(o O) (Decision, bool) { return due(parentOf(o)) }}
	}
	return []Step[R, O]{
		step("AwaitResume", awaitResume), step("AwaitKeyOwner", awaitKeyOwner),
		step("AwaitMasterKey", awaitMasterKey), step("AwaitResources", awaitResources),
	}
}

// awaitResume waits while the SecureNotes is suspended.
func awaitResume(parent *v1alpha1.SecureNotes) (Decision, bool) {
	if suspend := parent.Spec.Suspend; suspend == nil || !*suspend {
		return NotDue()
	}
	return Waiting(v1alpha1.ReasonSuspended, "SecureNotes %s is suspended: set its spec.suspend to false to continue", parent.Name)
}

// awaitKeyOwner waits while another object has the master key of the SecureNotes.
func awaitKeyOwner(parent *v1alpha1.SecureNotes) (Decision, bool) {
	c := meta.FindStatusCondition(parent.Status.Conditions, v1alpha1.ConditionVaultReady)
	if c == nil || c.Reason != v1alpha1.ReasonKeyTaken {
		return NotDue()
	}
	return Waiting(v1alpha1.ReasonKeyTaken, "SecureNotes %s: %s", parent.Name, c.Message)
}

// awaitMasterKey waits until the SecureNotes has a master key.
func awaitMasterKey(parent *v1alpha1.SecureNotes) (Decision, bool) {
	if parent.Status.DeploymentID != "" {
		return NotDue()
	}
	return Waiting(v1alpha1.ReasonSecureNotesNotReady, "SecureNotes %s has no master key yet: see its condition VaultReady", parent.Name)
}

// awaitResources waits until spec.resources, which the Jobs get, can be read.
func awaitResources(parent *v1alpha1.SecureNotes) (Decision, bool) {
	err := operand.CheckResources(parent)
	if err == nil {
		return NotDue()
	}
	return Waiting(v1alpha1.ReasonInvalidResources, "SecureNotes %s: %s", parent.Name, err)
}

// WaitingForWorkload waits for what the reconciler of the SecureNotes creates, and repeats why it
// cannot.
func WaitingForWorkload(parent *v1alpha1.SecureNotes, reason, what, check string) (Decision, bool) {
	c := meta.FindStatusCondition(parent.Status.Conditions, v1alpha1.ConditionWorkloadReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason == v1alpha1.ReasonProgressing {
		return Waiting(reason, "%s: if it takes long, see the condition WorkloadReady of SecureNotes %s, and %s", what, parent.Name, check)
	}
	d, due := Waiting(reason, "%s: %s", what, c.Message)
	d.Cause = cause.Cause{Reason: c.Reason, Message: c.Message}
	return d, due
}
