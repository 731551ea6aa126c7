package keyrotation

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

func setCondition(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: kr.Generation,
	})
}

// setInitial has every step's condition present from the first pass.
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

func setWaiting(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus, reason, message string) {
	setInitial(kr, s)
	setCondition(kr, s, v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	s.State = stateWord(kr, reason)
}

func stateWord(kr *v1alpha1.KeyRotation, reason string) string {
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
func reasonOf(s *v1alpha1.KeyRotationStatus) string {
	for _, kind := range []string{v1alpha1.ConditionFailed, v1alpha1.ConditionReconciling} {
		if c := meta.FindStatusCondition(s.Conditions, kind); c != nil && c.Status == metav1.ConditionTrue && c.Reason != s.State {
			return c.Reason
		}
	}
	return ""
}

// isWork says whether a reason is of a step that is under way, and of which no watch tells when it ends.
func isWork(reason string) bool {
	return slices.Contains([]string{
		v1alpha1.ReasonReencrypting, v1alpha1.ReasonVerifying, v1alpha1.ReasonRecreatingAccounts, v1alpha1.ReasonRestartingPods,
	}, reason)
}

func setReencrypted(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	if s.Progress == nil {
		s.Progress = &v1alpha1.RotationProgress{}
	}
	// The Job has completed: what it reported last may be a second older.
	s.Progress.NotesDone, s.Progress.Percent = s.Progress.NotesTotal, 100
	s.Progress.NotesPerSecond, s.Progress.SecondsLeft = 0, new(int64(0))
	setCondition(kr, s, v1alpha1.ConditionReencrypted, metav1.ConditionTrue, v1alpha1.ReasonComplete,
		fmt.Sprintf("everything is at version %d or above", *s.ToVersion))
	if rotations.Compromise(kr) {
		setCondition(kr, s, v1alpha1.ConditionSessionsEnded, metav1.ConditionTrue, v1alpha1.ReasonComplete, sessionsEnded(kr))
	}
	setWaiting(kr, s, v1alpha1.ReasonVerifying, "starts the verification Job")
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
	message := d.message
	if !d.forGood {
		message += ". The old version still decrypts; once the cause is corrected, retry with the annotation " + v1alpha1.AnnotationRetryRequestedAt
	}
	setCondition(kr, s, v1alpha1.ConditionFailed, metav1.ConditionTrue, d.reason, message)
	setCondition(kr, s, v1alpha1.ConditionStalled, metav1.ConditionTrue, d.reason, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}

// setRetried puts a failed rotation back into the queue. The versions stay: the work goes on from
// where it was.
func setRetried(kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	s.LastHandledRetryRequest = kr.Annotations[v1alpha1.AnnotationRetryRequestedAt]
	s.StartTime, s.CompletionTime, s.Progress = nil, nil, nil
	recordReencryptJob(s, trustedjob.Identity{})
	recordVerifyJob(s, trustedjob.Identity{})
	s.Attempt++
	// All Jobs run again: what failed may have been the verification of the one before. Service accounts and
	// session keys are replaced once.
	for _, kind := range []string{
		v1alpha1.ConditionFailed, v1alpha1.ConditionStalled, v1alpha1.ConditionReencrypted, v1alpha1.ConditionVerified, v1alpha1.ConditionSessionsEnded,
	} {
		meta.RemoveStatusCondition(&s.Conditions, kind)
	}
	setWaiting(kr, s, v1alpha1.ReasonQueued, "is tried again")
}

// setProgress sums what the Job's pods reported. A report that cannot be read is no progress, and
// never stops a rotation. It is read past the cache, which holds no data of ConfigMaps; the API
// server bounds it to 1 MiB.
func (r *Reconciler) setProgress(ctx context.Context, kr *v1alpha1.KeyRotation, s *v1alpha1.KeyRotationStatus) {
	name := kr.Spec.SecureNotesRef.Name
	reports := &corev1.ConfigMap{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: kr.Namespace, Name: operand.ProgressName(name)}, reports); err != nil {
		return
	}
	if progress := sumProgress(reports.Data, operand.ReencryptJobName(name, *s.ToVersion, s.Attempt), s.Shards); progress != nil {
		s.Progress = progress
	}
}

func equalStatus(a, b *v1alpha1.KeyRotationStatus) bool { return equality.Semantic.DeepEqual(a, b) }
