package notesrestore

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// awaitSecureNotes waits for the SecureNotes to be created.
var awaitSecureNotes = step{
	Name: "AwaitSecureNotes",
	Due: func(o observed) (decision, bool) {
		name := o.restore.Spec.SecureNotesRef.Name
		switch {
		case o.parent == nil && restores.Loaded(o.restore):
			return steps.Failing(v1alpha1.ReasonSecureNotesNotFound, "the database is restored, but SecureNotes %s, for which this restore has started, no longer exists", name)
		case o.parent == nil:
			return steps.Waiting(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s does not exist in this namespace: create it, or delete this NotesRestore", name)
		case o.parent.DeletionTimestamp != nil && !restores.Loaded(o.restore):
			return steps.Waiting(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s is being deleted: create it again, or delete this NotesRestore", name)
		}
		return steps.NotDue()
	},
}

// failNoDestination fails a restore of which nothing says where the backup is.
var failNoDestination = step{
	Name: "FailNoDestination",
	Due: func(o observed) (decision, bool) {
		if operand.RestoreDestination(o.restore, o.parent) != nil {
			return steps.NotDue()
		}
		return steps.Failing(v1alpha1.ReasonBackupNotConfigured, "SecureNotes %s has no spec.backup, and this NotesRestore has no spec.destination: set one of them", o.parent.Name)
	},
}

// awaitTurn waits until what runs has ended.
var awaitTurn = step{
	Name: "AwaitTurn",
	Due: func(o observed) (decision, bool) {
		if restores.Started(o.restore) || o.ahead == "" {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonQueued, "%s", waitsFor(o.ahead))
	},
}

// recordQueued writes the first status, before guard marks the object: a marked one without status
// is one that a tool has restored.
var recordQueued = step{
	Name: "RecordQueued",
	Due:  steps.When(func(o observed) bool { return o.restore.Status.State == "" }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.recordWaiting(ctx, o.restore, v1alpha1.ReasonQueued, "is about to start")
	},
}

// guard adds the finalizer, and marks the object as one that has started.
var guard = step{
	Name: "Guard",
	Due: steps.When(func(o observed) bool {
		nr := o.restore
		return !restores.HasFinalizer(nr) || !marks.Started(nr) && len(nr.Annotations) < marks.MaxAnnotations
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.restore, func() error {
			controllerutil.AddFinalizer(o.restore, v1alpha1.Finalizer)
			marks.SetStarted(o.restore)
			return nil
		})
	},
}

// start records that the restore starts, unless something comes first. Another operator may start
// something at the same time, so recordTurn checks again.
var start = step{
	Name: "Start",
	Due:  steps.When(func(o observed) bool { return !restores.Started(o.restore) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		r.starting.Lock()
		defer r.starting.Unlock()
		first, err := r.aheadLive(ctx, o.restore)
		if err != nil {
			return err
		}
		if first != "" {
			return r.queueBehind(ctx, o.restore, first)
		}
		return r.patchStatus(ctx, o.restore, func(s *v1alpha1.NotesRestoreStatus) {
			s.StartTime = new(metav1.NewTime(r.Now()))
			setWaiting(o.restore, s, v1alpha1.ReasonStopping, "makes the SecureNotes stand still")
		})
	},
}

// recordTurn records that the turn is certain, or yields it. It decides from lists that were read
// past the cache after the start was recorded.
var recordTurn = step{
	Name: "RecordTurn",
	Due:  steps.When(func(o observed) bool { return !restores.Certain(o.restore) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		nr := o.restore
		others, err := r.readOthers(ctx, r.Live, nr)
		if err != nil {
			return err
		}
		if yieldTo := others.certain(); yieldTo != "" {
			return r.queueBehind(ctx, nr, yieldTo)
		}
		if waitFor := others.started(); waitFor != "" {
			return stalecache.New("NotesRestore", nr.Name, waitFor+" has neither ended nor yielded its turn")
		}
		return r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) { s.SecureNotesUID = string(o.parent.UID) })
	},
}

// queueBehind records that a restore waits for something that was read past the cache. If it
// succeeds it returns a [stalecache.Error], because the cache does not show that yet.
func (r *Reconciler) queueBehind(ctx context.Context, nr *v1alpha1.NotesRestore, first string) error {
	err := r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) {
		s.StartTime = nil
		setWaiting(nr, s, v1alpha1.ReasonQueued, waitsFor(first))
	})
	if err != nil {
		return err
	}
	return stalecache.New("NotesRestore", nr.Name, first+" goes first")
}

// waitsFor says what a queued restore waits for, and what to do if that cannot end: the database
// may be lost, and is what the restore brings back.
func waitsFor(first string) string {
	return "waits for " + first + " to end; if something blocks that, delete it"
}

// others are what must not run beside a restore and has not ended: the restores, rotations and
// backups of the same SecureNotes. A NotesBackup that is being deleted is none of them, because a
// finalizer may keep it for ever. Its Job may still run: awaitStill waits for the pods that exist.
// A pod that starts later reads a database that is being restored, which does no harm.
type others struct {
	of        *v1alpha1.NotesRestore
	restores  []v1alpha1.NotesRestore
	rotations []v1alpha1.KeyRotation
	backups   []v1alpha1.NotesBackup
}

// certain describes one of the others to which a started restore yields: it changes something
// already, or it is a restore that comes before. It is empty if there is none.
func (o others) certain() string {
	for i := range o.restores {
		if other := &o.restores[i]; restores.Certain(other) || restores.Started(other) && restores.ByAge(other, o.of) < 0 {
			return "NotesRestore " + other.Name
		}
	}
	for i := range o.rotations {
		if kr := &o.rotations[i]; rotations.TurnCertain(kr) {
			return "KeyRotation " + kr.Name
		}
	}
	for i := range o.backups {
		if nb := &o.backups[i]; backups.Started(nb) && nb.Status.JobUID != "" {
			return "NotesBackup " + nb.Name
		}
	}
	return ""
}

// started describes one of the others that has recorded its start, or is empty if there is none.
func (o others) started() string {
	for i := range o.restores {
		if other := &o.restores[i]; restores.Started(other) {
			return "NotesRestore " + other.Name
		}
	}
	for i := range o.rotations {
		if kr := &o.rotations[i]; rotations.Started(kr) {
			return "KeyRotation " + kr.Name
		}
	}
	for i := range o.backups {
		if nb := &o.backups[i]; backups.Started(nb) {
			return "NotesBackup " + nb.Name
		}
	}
	return ""
}

// ahead describes what a queued restore waits for: everything that has started, and an older
// restore.
func (o others) ahead() string {
	for i := range o.restores {
		if other := &o.restores[i]; !restores.Started(other) && !restores.WithoutStatus(other) && other.DeletionTimestamp == nil && restores.ByAge(other, o.of) < 0 {
			return "NotesRestore " + other.Name
		}
	}
	return o.started()
}

func (r *Reconciler) aheadLive(ctx context.Context, nr *v1alpha1.NotesRestore) (string, error) {
	others, err := r.readOthers(ctx, r.Live, nr)
	return others.ahead(), err
}

// aheadInCache is as aheadLive, but reads the cache.
func (r *Reconciler) aheadInCache(ctx context.Context, nr *v1alpha1.NotesRestore) (string, error) {
	namespace, name := nr.Namespace, nr.Spec.SecureNotesRef.Name
	o := others{of: nr}
	open, err := restores.ListOpen(ctx, r.Client, namespace, name)
	if err != nil {
		return "", err
	}
	o.addRestores(open)
	if o.rotations, err = rotations.ListOpen(ctx, r.Client, namespace, name); err != nil {
		return "", err
	}
	o.rotations = notEnded(o.rotations, rotations.Ended)
	o.backups, err = backups.ListOpen(ctx, r.Client, namespace, name)
	return o.ahead(), err
}

// readOthers reads the others past the cache, which has indexes that the API server does not.
func (r *Reconciler) readOthers(ctx context.Context, live client.Reader, nr *v1alpha1.NotesRestore) (others, error) {
	o, inNamespace := others{of: nr}, client.InNamespace(nr.Namespace)
	restoreList, rotationList, backupList := &v1alpha1.NotesRestoreList{}, &v1alpha1.KeyRotationList{}, &v1alpha1.NotesBackupList{}
	for _, list := range []client.ObjectList{restoreList, rotationList, backupList} {
		if err := live.List(ctx, list, inNamespace); err != nil {
			return o, fmt.Errorf("list what runs for SecureNotes %s: %w", nr.Spec.SecureNotesRef.Name, err)
		}
	}
	name := nr.Spec.SecureNotesRef.Name
	o.addRestores(notEnded(restoreList.Items, func(other *v1alpha1.NotesRestore) bool {
		return restores.Ended(other) || other.Spec.SecureNotesRef.Name != name
	}))
	o.rotations = notEnded(rotationList.Items, func(kr *v1alpha1.KeyRotation) bool {
		return rotations.Ended(kr) || kr.Spec.SecureNotesRef.Name != name
	})
	o.backups = notEnded(backupList.Items, func(nb *v1alpha1.NotesBackup) bool {
		return !backups.Open(nb) || nb.Spec.SecureNotesRef.Name != name
	})
	return o, nil
}

// addRestores adds the restores other than the one itself.
func (o *others) addRestores(all []v1alpha1.NotesRestore) {
	o.restores = notEnded(all, func(other *v1alpha1.NotesRestore) bool { return other.UID == o.of.UID })
}

// notEnded returns a new list of those that drop does not drop.
func notEnded[T any](all []T, drop func(*T) bool) []T {
	var left []T
	for i := range all {
		if !drop(&all[i]) {
			left = append(left, all[i])
		}
	}
	return left
}
