package keyrotation

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// failOrphaned fails a started rotation whose SecureNotes no longer exists.
var failOrphaned = step{
	Name: "FailOrphaned",
	Due: func(o observed) (decision, bool) {
		if o.parent != nil || !rotations.Started(o.rotation) {
			return steps.NotDue()
		}
		return steps.FailingForGood(v1alpha1.ReasonSecureNotesNotFound,
			"SecureNotes %s, which this KeyRotation belongs to, no longer exists: delete this KeyRotation", o.rotation.Spec.SecureNotesRef.Name)
	},
}

// adopt makes the SecureNotes the owner of a rotation.
var adopt = step{
	Name: "Adopt",
	Due:  steps.When(func(o observed) bool { return o.parent != nil && metav1.GetControllerOf(o.rotation) == nil }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.rotation, func() error {
			return controllerutil.SetControllerReference(o.parent, o.rotation, r.Client.Scheme())
		})
	},
}

// failForeign fails a rotation that belongs to another object, such as an earlier SecureNotes of
// the same name.
var failForeign = step{
	Name: "FailForeign",
	Due: func(o observed) (decision, bool) {
		if o.parent == nil {
			return steps.NotDue()
		}
		controller := metav1.GetControllerOf(o.rotation)
		if controller.UID == o.parent.UID {
			return steps.NotDue()
		}
		return steps.FailingForGood(v1alpha1.ReasonNameConflict,
			"this KeyRotation belongs to %s %s, not to SecureNotes %s: create another KeyRotation without an owner reference", controller.Kind, controller.Name, o.parent.Name)
	},
}

// recordRestored ends a rotation that had ended before a backup tool restored it without its
// status.
var recordRestored = step{
	Name: "RecordRestored",
	Due:  steps.When(func(o observed) bool { return o.parent != nil && restoredEnded(o.rotation) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) { setRestored(o.rotation, s) })
	},
}

// failTooMany fails a rotation that would lengthen the queue without end.
var failTooMany = step{
	Name: "FailTooMany",
	Due: func(o observed) (decision, bool) {
		if rotations.Started(o.rotation) || restoredEnded(o.rotation) || o.queued < maxQueued {
			return steps.NotDue()
		}
		return steps.Failing(v1alpha1.ReasonTooManyRotations, "%d older KeyRotations of SecureNotes %s have not ended: delete those that are not needed, or wait for them",
			o.queued, o.rotation.Spec.SecureNotesRef.Name)
	},
}

// awaitSecureNotes waits for the SecureNotes of a rotation to be created.
var awaitSecureNotes = step{
	Name: "AwaitSecureNotes",
	Due: func(o observed) (decision, bool) {
		if o.parent != nil {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s does not exist in this namespace: create it, or delete this KeyRotation", o.rotation.Spec.SecureNotesRef.Name)
	},
}

// restoredEnded reports whether the rotation had ended before it was restored without its status.
func restoredEnded(kr *v1alpha1.KeyRotation) bool {
	return markedEnded(kr) && kr.Status.StartTime == nil && kr.Status.Attempt == 0
}

// setRestored ends a restored rotation. It claims no success: anyone who may edit the object may
// have written the annotation.
func setRestored(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	message := fmt.Sprintf("its annotation %s says that this KeyRotation had ended before it was restored from a backup. "+
		"It does not start again, and what it did is not known. To rotate, create another KeyRotation", v1alpha1.AnnotationEnded)
	setInitial(kr, s)
	s.State = v1alpha1.ConditionRestored
	setCondition(kr, s, v1alpha1.ConditionRestored, metav1.ConditionTrue, v1alpha1.ConditionRestored, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}
