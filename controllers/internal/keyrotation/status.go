package keyrotation

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

func setCondition(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: kr.Generation,
	})
}

// compromised are the conditions that every Compromise has, and only a Compromise, in the order
// shown. They may become True in another order: SessionKeysReplaced waits for the pods, and no
// other step waits for it. BackupKeyReplaced may stay False.
var compromised = []string{
	v1alpha1.ConditionServiceAccountsRecreated, v1alpha1.ConditionBackupKeyReplaced, v1alpha1.ConditionSessionKeysReplaced,
	v1alpha1.ConditionSessionsEnded, v1alpha1.ConditionOldVersionRetired,
}

// setInitial sets every condition that is missing to False, so that all are present from the first
// pass.
func setInitial(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	kinds := []string{v1alpha1.ConditionReencrypted, v1alpha1.ConditionVerified, v1alpha1.ConditionComplete}
	if rotations.Compromise(kr) {
		kinds = append(kinds, compromised...)
	}
	for _, kind := range kinds {
		if meta.FindStatusCondition(s.Conditions, kind) == nil {
			setCondition(kr, s, kind, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "not yet")
		}
	}
}

// setWaiting sets the condition that says what a rotation waits for, or does.
func setWaiting(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, reason, message string) {
	setInitial(kr, s)
	setCondition(kr, s, v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	s.State = stateOf(kr, reason)
}

func stateOf(kr *v1alpha1.KeyRotation, reason string) string {
	switch {
	case isWork(reason):
		return reason
	case kr.Status.StartTime == nil:
		return v1alpha1.ReasonQueued
	case kr.Status.ToVersion == nil:
		return v1alpha1.ReasonRotatingKey
	case rotations.IsTrue(kr, v1alpha1.ConditionReencrypted):
		return v1alpha1.ReasonVerifying
	default:
		return v1alpha1.ReasonReencrypting
	}
}

// reasonOf returns why a rotation waits or has failed; empty where its state says that.
func reasonOf(s *v1alpha1.KeyRotationStatus) string { return steps.ReasonOf(s.State, s.Conditions) }

// isWork reports whether a reason stands for work in progress whose end no watch reports.
func isWork(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonReencrypting, v1alpha1.ReasonVerifying, v1alpha1.ReasonRecreatingAccounts, v1alpha1.ReasonRestartingPods,
	}, reason)
}

// record sets a condition of a Compromise to True, and emits an event on both objects.
func (r *Reconciler) record(ctx context.Context, o observed, condition, message string) error {
	err := r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
		setCondition(o.rotation, s, condition, metav1.ConditionTrue, v1alpha1.ReasonComplete, message)
	})
	if err != nil {
		return err
	}
	r.announce(o.rotation, o.parent, condition, message)
	return nil
}

// announce emits an event on both objects, where people look for either.
func (r *Reconciler) announce(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, reason, message string) {
	r.Recorder.Eventf(kr, parent, corev1.EventTypeNormal, reason, "Rotate", "%s", message)
	r.Recorder.Eventf(parent, kr, corev1.EventTypeNormal, reason, "Rotate", "%s", message)
}

func (r *Reconciler) event(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, kind, reason, message string) {
	if parent == nil {
		r.Recorder.Eventf(kr, nil, kind, reason, "Rotate", "%s", message)
		return
	}
	r.Recorder.Eventf(kr, parent, kind, reason, "Rotate", "%s", message)
}

// patchStatus writes what change does to the status, if anything.
func (r *Reconciler) patchStatus(ctx context.Context, kr *v1alpha1.KeyRotation, change func(*v1alpha1.KeyRotationStatus)) error {
	return steps.PatchStatus(ctx, r.Client, kr, func() {
		change(&kr.Status)
		kr.Status.ObservedGeneration, kr.Status.Reason = kr.Generation, reasonOf(&kr.Status)
	})
}

// patchObject writes what change does to the metadata.
func (r *Reconciler) patchObject(ctx context.Context, kr *v1alpha1.KeyRotation, change func() error) error {
	return steps.PatchMetadata(ctx, r.Client, r.Live, "KeyRotation", kr, change)
}
