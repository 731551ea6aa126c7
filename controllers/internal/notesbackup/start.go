package notesbackup

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// awaitTurn waits until the backup that comes first has ended.
var awaitTurn = step{
	Name: "AwaitTurn",
	Due: func(o observed) (decision, bool) {
		switch {
		case backups.Started(o.backup):
			return steps.NotDue()
		case o.restoring != nil:
			return steps.Waiting(v1alpha1.ReasonQueued, "waits for NotesRestore %s to end", o.restoring.Name)
		case o.ahead == nil:
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonQueued, "waits for NotesBackup %s to end", o.ahead.Name)
	},
}

// yield queues a backup that has started behind a NotesRestore that has started, too. A restore
// that starts later sees the recorded start of this backup.
var yield = step{
	Name: "Yield",
	Due:  steps.When(func(o observed) bool { return backups.Started(o.backup) && o.restoring != nil }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		nb := o.backup
		return r.patchStatus(ctx, nb, func(s *v1alpha1.NotesBackupStatus) {
			s.StartTime, s.SecureNotesUID = nil, ""
			setWaiting(nb, s, v1alpha1.ReasonQueued, "waits for NotesRestore "+o.restoring.Name+" to end")
		})
	},
}

// start records that the backup starts, and which SecureNotes it is of.
var start = step{
	Name: "Start",
	Due:  steps.When(func(o observed) bool { return !backups.Started(o.backup) }),
	Do:   func(ctx context.Context, r *Reconciler, o observed) error { return r.start(ctx, o) },
}

// createConfiguration creates the ConfigMap of the Job.
var createConfiguration = step{
	Name: "CreateConfiguration",
	Due:  steps.When(func(o observed) bool { return o.configuration.Missing() }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return o.configuration.Create(ctx, r.Client)
	},
}

// ahead returns the backup that the queued backup nb waits for, or nil if nb may start. all are of
// one SecureNotes. nb waits for a started backup, and for the queued ones that are older.
func ahead(nb *v1alpha1.NotesBackup, all []v1alpha1.NotesBackup) *v1alpha1.NotesBackup {
	var first *v1alpha1.NotesBackup
	for i := range all {
		other := &all[i]
		if other.UID == nb.UID || !backups.Open(other) {
			continue
		}
		if backups.Started(other) {
			return other
		}
		if backups.ByAge(other, nb) < 0 && (first == nil || backups.ByAge(other, first) < 0) {
			first = other
		}
	}
	return first
}

// start records the start, unless another backup comes first. It lists the backups past the cache,
// under a lock of the process, so that this process starts only one of two. Two operators may start
// two at once, which does no harm: each Job writes an archive of its own.
func (r *Reconciler) start(ctx context.Context, o observed) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	nb := o.backup
	all, err := r.listLive(ctx, nb)
	if err != nil {
		return err
	}
	if first := ahead(nb, all); first != nil {
		return stalecache.New("NotesBackup", first.Name, "it goes first")
	}
	restoring, err := restores.Active(ctx, r.Live, nb.Namespace, nb.Spec.SecureNotesRef.Name)
	if err != nil {
		return err
	}
	if restoring != nil {
		return stalecache.New("NotesRestore", restoring.Name, "it goes first")
	}
	return r.patchStatus(ctx, nb, func(s *v1alpha1.NotesBackupStatus) {
		s.StartTime, s.SecureNotesUID = new(metav1.NewTime(r.Now())), string(o.parent.UID)
		setWaiting(nb, s, v1alpha1.ReasonBackingUp, "starts the backup Job")
	})
}

// listLive returns the backups of nb's SecureNotes, past the cache.
func (r *Reconciler) listLive(ctx context.Context, nb *v1alpha1.NotesBackup) ([]v1alpha1.NotesBackup, error) {
	found := &v1alpha1.NotesBackupList{}
	if err := r.Live.List(ctx, found, client.InNamespace(nb.Namespace)); err != nil {
		return nil, fmt.Errorf("list the NotesBackups of SecureNotes %s: %w", nb.Spec.SecureNotesRef.Name, err)
	}
	var all []v1alpha1.NotesBackup
	for _, other := range found.Items {
		if other.Spec.SecureNotesRef.Name == nb.Spec.SecureNotesRef.Name {
			all = append(all, other)
		}
	}
	return all, nil
}
