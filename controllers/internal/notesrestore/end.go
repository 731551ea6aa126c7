package notesrestore

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// deleteAccount deletes the service account of a restore that has ended, so that nothing can log in
// to Vault with its rights.
var deleteAccount = step{
	Name: "DeleteAccount",
	Due: steps.When(func(o observed) bool {
		return restores.Ended(o.restore) && o.ownAccount() && o.account.DeletionTimestamp == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return client.IgnoreNotFound(r.Client.Delete(ctx, o.account, client.Preconditions{UID: &o.account.UID}))
	},
}

// release removes the finalizer of a restore that has nothing left to do.
var release = step{
	Name: "Release",
	Due:  steps.When(func(o observed) bool { return over(o) && restores.HasFinalizer(o.restore) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.restore, func() error {
			controllerutil.RemoveFinalizer(o.restore, v1alpha1.Finalizer)
			if restores.Ended(o.restore) {
				marks.SetEnded(o.restore)
			}
			return nil
		})
	},
}

// recordEnded records in the metadata that a restore has ended. A backup tool restores an object
// without its status, and a restore that has ended must not start again: it would replace what was
// written since.
var recordEnded = step{
	Name: "RecordEnded",
	Due: steps.When(func(o observed) bool {
		nr := o.restore
		return restores.Ended(nr) && !marks.Ended(nr) && len(nr.Annotations) < marks.MaxAnnotations && nr.DeletionTimestamp == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.restore, func() error { marks.SetEnded(o.restore); return nil })
	},
}

// stopEnded stops a restore that has nothing left to do.
var stopEnded = step{
	Name: "Stop",
	Due:  func(o observed) (decision, bool) { return decision{Verdict: steps.Stop}, over(o) },
}

// over reports whether nothing is left to do for a restore but to let its object go: it has ended,
// or it was deleted before it started.
func over(o observed) bool {
	return restores.Ended(o.restore) || o.restore.DeletionTimestamp != nil && !restores.Started(o.restore)
}

// recordRestored ends a restore that had started or ended before a tool restored it without its
// status. Restored to a time while it ran, it would replace what was written since.
var recordRestored = step{
	Name: "RecordRestored",
	Due:  steps.When(func(o observed) bool { return restores.WithoutStatus(o.restore) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		nr, annotation, what := o.restore, v1alpha1.AnnotationStarted, "started"
		if marks.Ended(nr) {
			annotation, what = v1alpha1.AnnotationEnded, "ended"
		}
		return r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) {
			setInitial(nr, s)
			s.State = v1alpha1.ConditionRestored
			setCondition(nr, s, v1alpha1.ConditionRestored, metav1.ConditionTrue, v1alpha1.ConditionRestored, fmt.Sprintf(
				"its annotation %s says that this NotesRestore had %s before another tool restored the object. "+
					"It does not start again, and what it did is not known. To restore, create another NotesRestore", annotation, what))
			meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
		})
	},
}

// deleteJob deletes the Job of a restore that is to stop.
var deleteJob = step{
	Name: "DeleteJob", Job: func(o observed) string { return operand.RestoreJobName(o.restore) },
	Due: steps.When(func(o observed) bool {
		return o.stops() && o.job.Phase == trustedjob.Running
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		job := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: o.restore.Namespace, Name: o.job.Name}}
		err := r.Client.Delete(ctx, job, client.Preconditions{UID: &o.job.Identity.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		if client.IgnoreNotFound(err) != nil {
			return err
		}
		return stalecache.New("Job", job.Name, "it was deleted")
	},
}

// awaitJobGone waits until no pod of a deleted Job is left: the SecureNotes must not go on while
// one may still write.
var awaitJobGone = step{
	Name: "AwaitJobGone",
	Due: func(o observed) (decision, bool) {
		if !o.stops() || o.leftover == "" || o.job.Phase == trustedjob.Complete {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonStopping, "the Job was deleted, and the restore waits until %s", o.leftover)
	},
}

// failStopped fails a restore that has stopped.
var failStopped = step{
	Name: "FailStopped",
	Due: func(o observed) (decision, bool) {
		switch {
		case !o.stops() || o.job.Phase == trustedjob.Complete && !gone(o.parent):
			return steps.NotDue()
		case o.restore.DeletionTimestamp != nil:
			return steps.Failing(v1alpha1.ReasonDeleting, "the NotesRestore was deleted before its Job was complete")
		default:
			return steps.Failing(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s, for which this restore has started, no longer exists", o.restore.Spec.SecureNotesRef.Name)
		}
	},
}

// complete ends a restore. It is the last step, and always due.
var complete = step{
	Name: "Complete",
	Due:  steps.When(func(observed) bool { return true }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		nr := o.restore
		message := fmt.Sprintf("backup %s is restored: %d notes of %d accounts. All users have to log in again", nr.Spec.ID, nr.Status.Notes, nr.Status.Accounts)
		if nr.Status.Damaged > 0 {
			message += fmt.Sprintf(". %d values cannot be decrypted", nr.Status.Damaged)
		}
		message += fmt.Sprintf(". KeyRotation %s re-encrypts the notes. Delete the Secrets with the identities", nr.Status.Rotation)
		err := r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) {
			setEnd(s, v1alpha1.ReasonComplete, r.Now())
			setCondition(nr, s, v1alpha1.ConditionComplete, metav1.ConditionTrue, v1alpha1.ReasonComplete, message)
		})
		if err == nil {
			r.announce(o, stateEvent(false), v1alpha1.ReasonComplete, message)
		}
		return err
	},
}

// fail records that a restore has failed, and the way back.
func (r *Reconciler) fail(ctx context.Context, o observed, d decision) error {
	nr, message := o.restore, d.Message
	if d.Reason == config.ReasonConfigInvalid {
		message += ". The identities are " + identities(nr)
	}
	message += databaseAfter(nr, d.Reason)
	message += ". Once the cause is corrected, create another NotesRestore"
	err := r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) {
		setInitial(nr, s)
		setEnd(s, v1alpha1.ConditionFailed, r.Now())
		for _, kind := range []string{v1alpha1.ConditionFailed, v1alpha1.ConditionStalled} {
			setCondition(nr, s, kind, metav1.ConditionTrue, d.Reason, message)
		}
	})
	if err != nil {
		return err
	}
	r.announce(o, stateEvent(true), d.Reason, message)
	log.FromContext(ctx).Info("restore failed", "reason", d.Reason, "message", message)
	return nil
}

// databaseAfter says what a failed restore has left of the database. Any pod but the first may find
// what one before it has written, and damage of the values in a backup may be found at the end. A
// Job that failed without a report, or that has gone, may even have been complete.
func databaseAfter(nr *v1alpha1.NotesRestore, reason string) string {
	if nr.Status.SecureNotesUID == "" || reason == config.ReasonDatabaseNotEmpty {
		return ". The database has not been changed"
	}
	text := ". If DatabaseReady of the SecureNotes then has the reason DatabaseRestoring, the database has a part of the backup, and no pod serves it"
	switch reason {
	case v1alpha1.ReasonJobFailed, v1alpha1.ReasonDeleting, v1alpha1.ReasonSecureNotesNotFound:
		return text
	default:
		return text + "; otherwise it has not been changed"
	}
}

// identities says where the identities of a restore have to be.
func identities(nr *v1alpha1.NotesRestore) string {
	text := fmt.Sprintf("key %s of Secret %s", nr.Spec.IdentitySecretRef.Key, nr.Spec.IdentitySecretRef.Name)
	if ref := nr.Spec.EscrowIdentitySecretRef; ref != nil {
		text += fmt.Sprintf(", and key %s of Secret %s for the escrow file", ref.Key, ref.Name)
	}
	return text
}

func setEnd(s *v1alpha1.NotesRestoreStatus, state string, now time.Time) {
	s.State, s.CompletionTime = state, new(metav1.NewTime(now))
	if s.StartTime != nil {
		s.DurationSeconds = max(0, int64(now.Sub(s.StartTime.Time)/time.Second))
	}
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}

// leftover says past the cache which pod of the Job may still run; empty if none may.
func (r *Reconciler) leftover(ctx context.Context, nr *v1alpha1.NotesRestore) (string, error) {
	return r.alive(ctx, nr.Namespace, client.MatchingLabels{batchv1.JobNameLabel: operand.RestoreJobName(nr)})
}
