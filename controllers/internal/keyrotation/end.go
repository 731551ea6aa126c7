package keyrotation

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// retry puts a failed rotation back into the queue.
var retry = step{
	Name: "Retry",
	Due: steps.When(func(o observed) bool {
		kr := o.rotation
		return !gone(o.parent) && rotations.Failed(kr) && rotations.RetryRequested(kr) && kr.DeletionTimestamp == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		kr := o.rotation
		if err := r.patchObject(ctx, kr, func() error { unmarkEnded(kr); return nil }); err != nil {
			return err
		}
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setRetried(kr, s) })
	},
}

// release removes the finalizer of a rotation that has nothing left to do.
var release = step{
	Name: "Release",
	Due:  steps.When(func(o observed) bool { return over(o) && rotations.HasFinalizer(o.rotation) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		kr := o.rotation
		return r.patchObject(ctx, kr, func() error {
			controllerutil.RemoveFinalizer(kr, v1alpha1.Finalizer)
			if rotations.Ended(kr) {
				markEnded(kr)
			}
			return nil
		})
	},
}

// recordEnded records in the metadata that a rotation has ended. A backup tool restores an object
// without its status, and a rotation that has ended must not start again.
var recordEnded = step{
	Name: "RecordEnded",
	Due: steps.When(func(o observed) bool {
		kr := o.rotation
		return over(o) && rotations.Ended(kr) && !markedEnded(kr) && len(kr.Annotations) < marks.MaxAnnotations && kr.DeletionTimestamp == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.rotation, func() error { markEnded(o.rotation); return nil })
	},
}

// stopEnded stops a rotation that has nothing left to do.
var stopEnded = step{
	Name: "Stop",
	Due:  func(o observed) (decision, bool) { return decision{Verdict: steps.Stop}, over(o) },
}

// complete ends a rotation. It is the last step, and always due.
var complete = step{
	Name: "Complete",
	Due:  steps.When(func(observed) bool { return true }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.complete(ctx, o.rotation, o.parent)
	},
}

// over reports whether nothing is left to do for a rotation but to let its object go: it has ended,
// it was deleted before it started, or its SecureNotes is being deleted.
func over(o observed) bool {
	kr := o.rotation
	deleted := kr.DeletionTimestamp != nil
	if gone(o.parent) && (deleted || o.parent != nil) {
		return true
	}
	return rotations.Ended(kr) || deleted && !rotations.Started(kr)
}

// gone reports whether a SecureNotes does not exist or is being deleted.
func gone(parent *v1alpha1.SecureNotes) bool { return parent == nil || parent.DeletionTimestamp != nil }

func (r *Reconciler) complete(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	if err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setComplete(kr, s, r.Now()) }); err != nil {
		return err
	}
	r.event(kr, parent, corev1.EventTypeNormal, v1alpha1.ReasonComplete, fmt.Sprintf("rotated %s to version %d", parent.Name, *kr.Status.ToVersion))
	return nil
}

func (r *Reconciler) fail(ctx context.Context, o observed, d decision) error {
	kr := o.rotation
	if err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setFailed(kr, s, d, r.Now()) }); err != nil {
		return err
	}
	r.event(kr, o.parent, corev1.EventTypeWarning, d.Reason, d.Message)
	logger(ctx, kr).Info("rotation failed", "reason", d.Reason, "message", d.Message)
	return nil
}

func setComplete(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, now time.Time) {
	s.State = v1alpha1.ReasonComplete
	s.CompletionTime = new(metav1.NewTime(now))
	setCondition(kr, s, v1alpha1.ConditionComplete, metav1.ConditionTrue, v1alpha1.ReasonComplete,
		fmt.Sprintf("rotated from version %d to %d", *s.FromVersion, *s.ToVersion))
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionStalled)
}

func setFailed(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, d decision, now time.Time) {
	setInitial(kr, s)
	s.State = v1alpha1.ConditionFailed
	s.CompletionTime = new(metav1.NewTime(now))
	message := d.Message
	if !d.Final {
		message += ". The old version still decrypts; once the cause is corrected, retry with the annotation " + v1alpha1.AnnotationRetryRequestedAt
	}
	setCondition(kr, s, v1alpha1.ConditionFailed, metav1.ConditionTrue, d.Reason, message)
	setCondition(kr, s, v1alpha1.ConditionStalled, metav1.ConditionTrue, d.Reason, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}

// setRetried starts another attempt. The versions stay: the attempt continues from them.
func setRetried(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	s.LastHandledRetryRequest = kr.Annotations[v1alpha1.AnnotationRetryRequestedAt]
	s.StartTime, s.CompletionTime, s.Progress = nil, nil, nil
	s.ReencryptJobUID, s.ReencryptJobDigest, s.VerifyJobUID, s.VerifyJobDigest = "", "", "", ""
	s.Attempt++
	// All Jobs run again: the failure may have been in the verification. Service accounts and
	// session keys are replaced only once.
	for _, kind := range []string{
		v1alpha1.ConditionFailed, v1alpha1.ConditionStalled, v1alpha1.ConditionReencrypted, v1alpha1.ConditionVerified, v1alpha1.ConditionSessionsEnded,
	} {
		meta.RemoveStatusCondition(&s.Conditions, kind)
	}
	setWaiting(kr, s, v1alpha1.ReasonQueued, "is retried")
}

// markedEnded reports whether the annotation says that the rotation has ended.
func markedEnded(kr *v1alpha1.KeyRotation) bool { return marks.Ended(kr) }

// markEnded records the end in the annotations, unless there are too many.
func markEnded(kr *v1alpha1.KeyRotation) { marks.SetEnded(kr) }

// unmarkEnded removes the record of the end. A rotation that has an attempt ignores a record that
// is left; see restoredEnded.
func unmarkEnded(kr *v1alpha1.KeyRotation) {
	if len(kr.Annotations) <= marks.MaxAnnotations {
		delete(kr.Annotations, v1alpha1.AnnotationEnded)
	}
}

// warnOfRetry emits an event if the requested retry of a failed rotation is ignored.
func (r *Reconciler) warnOfRetry(kr *v1alpha1.KeyRotation) {
	if value := kr.Annotations[v1alpha1.AnnotationRetryRequestedAt]; rotations.Failed(kr) && rotations.TooLong(value) {
		r.Recorder.Eventf(kr, nil, corev1.EventTypeWarning, v1alpha1.ConditionAnnotationIgnored, "Rotate",
			"%s=%.64q is ignored: %s", v1alpha1.AnnotationRetryRequestedAt, value, rotations.TooLongAdvice)
	}
}
