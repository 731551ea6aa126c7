package notesrestore

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

func setCondition(nr *v1alpha1.NotesRestore, s *v1alpha1.NotesRestoreStatus, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: nr.Generation,
	})
}

// setInitial sets Complete to False if it is missing, so that it is present from the first pass.
func setInitial(nr *v1alpha1.NotesRestore, s *v1alpha1.NotesRestoreStatus) {
	if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionComplete) == nil {
		setCondition(nr, s, v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "not yet")
	}
}

// setWaiting sets the condition that says what a restore waits for, or does.
func setWaiting(nr *v1alpha1.NotesRestore, s *v1alpha1.NotesRestoreStatus, reason, message string) {
	setInitial(nr, s)
	setCondition(nr, s, v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	s.State = stateOf(nr, reason)
}

func stateOf(nr *v1alpha1.NotesRestore, reason string) string {
	switch {
	case slices.Contains([]string{v1alpha1.ReasonStopping, v1alpha1.ReasonRestoring, v1alpha1.ReasonRecording}, reason):
		return reason
	case !restores.Started(nr):
		return v1alpha1.ReasonQueued
	case restores.Loaded(nr):
		return v1alpha1.ReasonRecording
	case nr.Status.JobUID != "":
		return v1alpha1.ReasonRestoring
	default:
		return v1alpha1.ReasonStopping
	}
}

func (r *Reconciler) event(nr *v1alpha1.NotesRestore, parent *v1alpha1.SecureNotes, kind, reason, message string) {
	if parent == nil {
		r.Recorder.Eventf(nr, nil, kind, reason, "Restore", "%s", message)
		return
	}
	r.Recorder.Eventf(nr, parent, kind, reason, "Restore", "%s", message)
}

// announce emits an event on both objects, where people look for either.
func (r *Reconciler) announce(o observed, kind, reason, message string) {
	r.event(o.restore, o.parent, kind, reason, message)
	if o.parent != nil {
		r.Recorder.Eventf(o.parent, o.restore, kind, reason, "Restore", "%s", message)
	}
}

// patchStatus writes what change does to the status, if anything, guarded by the resourceVersion.
func (r *Reconciler) patchStatus(ctx context.Context, nr *v1alpha1.NotesRestore, change func(*v1alpha1.NotesRestoreStatus)) error {
	return steps.PatchStatus(ctx, r.Client, nr, func() {
		change(&nr.Status)
		nr.Status.ObservedGeneration, nr.Status.Reason = nr.Generation, steps.ReasonOf(nr.Status.State, nr.Status.Conditions)
	})
}

func (r *Reconciler) patchObject(ctx context.Context, nr *v1alpha1.NotesRestore, change func() error) error {
	return steps.PatchMetadata(ctx, r.Client, r.Live, "NotesRestore", nr, change)
}

// stateEvent is the kind of an event about the end of a restore.
func stateEvent(failed bool) string {
	if failed {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}
