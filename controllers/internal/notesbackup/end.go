package notesbackup

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// recordEnded records in the metadata that a backup has ended. A tool such as Velero restores an
// object without its status, and a backup that has ended must not start again.
var recordEnded = step{
	Name: "RecordEnded",
	Due: steps.When(func(o observed) bool {
		nb := o.backup
		return backups.Ended(nb) && !marks.Ended(nb) && len(nb.Annotations) < marks.MaxAnnotations && nb.DeletionTimestamp == nil
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return steps.PatchMetadata(ctx, r.Client, r.Live, "NotesBackup", o.backup, func() error { marks.SetEnded(o.backup); return nil })
	},
}

// stopJob deletes the Job of a failed backup that has not ended: the status would not show what it
// does.
var stopJob = step{
	Name: "StopJob",
	Job:  func(o observed) string { return o.leftover.Name },
	Due:  steps.When(func(o observed) bool { return o.leftover != nil }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		err := r.Client.Delete(ctx, o.leftover, client.Preconditions{UID: &o.leftover.UID}, client.PropagationPolicy(metav1.DeletePropagationBackground))
		// A conflict means that there is another Job of this name, which the next pass reads.
		if err != nil && !apierrors.IsNotFound(err) {
			return err
		}
		return nil
	},
}

// stopEnded stops a backup that has nothing left to do.
var stopEnded = step{
	Name: "Stop",
	Due: func(o observed) (decision, bool) {
		return decision{Verdict: steps.Stop}, backups.Ended(o.backup) || o.backup.DeletionTimestamp != nil
	},
}

func (r *Reconciler) fail(ctx context.Context, o observed, d decision) error {
	nb := o.backup
	if err := r.patchStatus(ctx, nb, func(s *v1alpha1.NotesBackupStatus) { setFailed(nb, s, d, r.Now()) }); err != nil {
		return err
	}
	r.event(nb, o.parent, corev1.EventTypeWarning, d.Reason, d.Message)
	logger(ctx, nb).Info("backup failed", "reason", d.Reason, "message", d.Message)
	return nil
}
