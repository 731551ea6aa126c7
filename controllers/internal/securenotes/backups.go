package securenotes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
)

// manageBackups creates the NotesBackups that the schedule, an annotation or the end of a rotation
// requests, and deletes those that spec.backup.keep no longer keeps. It deletes no files: the Jobs
// of backups do.
func (r *Reconciler) manageBackups(ctx context.Context, s *scope) error {
	if s.sn.Spec.Backup == nil {
		return nil
	}
	all, err := r.readBackups(ctx, s)
	if err != nil {
		return err
	}
	for _, nb := range backups.Prunable(s.backupList, s.sn.Spec.Backup.Keep, s.now) {
		if err := r.delete(ctx, &nb); err != nil {
			return err
		}
	}
	rotated, at, err := r.lastRotated(ctx, s.sn)
	if err != nil {
		return err
	}
	switch before := s.sn.Status.Backup; {
	case before == nil:
		s.sn.Status.Backup = &v1alpha1.BackupStatus{HandledRotation: rotated}
	case before.ObservedSchedule == nil: // spec.backup was unset
		s.sn.Status.Backup = &v1alpha1.BackupStatus{HandledRotation: rotated, Drill: before.Drill}
	}
	recordLastBackup(s)
	if err := s.createScheduled(r.backupCalendar(ctx, s)); err != nil {
		return err
	}
	if err := r.createRequestedBackup(ctx, s); err != nil {
		return err
	}
	if err := r.backUpRotation(ctx, s, all, rotated, at); err != nil {
		return err
	}
	if !s.backupFinding.known() {
		s.backupFinding = backupHealth(s)
	}
	return nil
}

// readBackups reads the backups of this object into the scope. It returns them together with those
// of earlier objects of the same name. All are the cache's own, and must not be changed.
func (r *Reconciler) readBackups(ctx context.Context, s *scope) (all []v1alpha1.NotesBackup, err error) {
	all, err = backups.List(ctx, r.Client, s.sn.Namespace, s.sn.Name)
	s.backupList = slices.DeleteFunc(slices.Clone(all), func(nb v1alpha1.NotesBackup) bool { return !ofObject(s.sn, &nb) })
	return all, err
}

// ofObject reports whether a backup is of this object and not of an earlier one of the same name,
// as far as it is known: the status of a backup that has not started tells nothing.
func ofObject(sn *v1alpha1.SecureNotes, nb *v1alpha1.NotesBackup) bool {
	return nb.Status.SecureNotesUID == "" || nb.Status.SecureNotesUID == string(sn.UID)
}

// startedBackups returns the backups that have started. One that failed before that says nothing
// about this object: there was none, or spec.backup was unset.
func startedBackups(s *scope) []v1alpha1.NotesBackup {
	return slices.DeleteFunc(slices.Clone(s.backupList), func(nb v1alpha1.NotesBackup) bool { return nb.Status.SecureNotesUID == "" })
}

// recordLastBackup records the newest complete backup, and what it found in its destination. Both
// stay recorded when its NotesBackup is deleted, because its files are not.
func recordLastBackup(s *scope) {
	status := s.sn.Status.Backup
	nb := backups.NewestComplete(startedBackups(s))
	if nb == nil {
		return
	}
	end := backups.EndOf(nb, s.now)
	if end.Before(lastComplete(s)) {
		return
	}
	status.Last = &v1alpha1.LastBackup{Name: nb.Name, CompletionTime: new(metav1.NewTime(end)), BackupResult: *nb.Status.BackupResult.DeepCopy()}
	status.Destination = nb.Status.Destination.DeepCopy()
}

// lastComplete returns when the last recorded backup completed. It returns the zero time if none is
// recorded, or if the recorded time is after now: the operator's clock was ahead then.
func lastComplete(s *scope) time.Time {
	if last := s.sn.Status.Backup.Last; last != nil && last.CompletionTime != nil && !last.CompletionTime.After(s.now) {
		return last.CompletionTime.Time
	}
	return time.Time{}
}

// lastRotated returns the newest version of the master key whose rotation is complete, and when
// that was. The version is 0 if there is none.
func (r *Reconciler) lastRotated(ctx context.Context, sn *v1alpha1.SecureNotes) (version int64, at time.Time, err error) {
	list, err := r.listRotations(ctx, sn)
	for i := range list {
		kr := &list[i]
		if to := ptr.Deref(kr.Status.ToVersion, 0); to > version && rotations.Complete(kr) && metav1.IsControlledBy(kr, sn) {
			version, at = to, ptr.Deref(kr.Status.CompletionTime, metav1.Time{}).Time
		}
	}
	return version, at, err
}

// createRequestedBackup creates the backup that the annotation requests.
func (r *Reconciler) createRequestedBackup(ctx context.Context, s *scope) error {
	status, before := s.sn.Status.Backup, s.original.Status.Backup
	q := request{
		annotation: v1alpha1.AnnotationBackupRequestedAt, what: "backup",
		last: &status.LastHandledRequest, handled: &status.HandledRequests,
		reason: "BackupNotNeeded", action: "BackUp",
		create: func(name string) (bool, error) {
			return r.createBackup(ctx, s, name, v1alpha1.BackupByAnnotation, time.Time{})
		},
	}
	switch {
	case s.original.Status.DeploymentID == "":
		q.newer = "the keys"
	case before == nil || before.ObservedSchedule == nil:
		q.newer = "spec.backup"
	case !s.hasKeys:
		return nil
	default:
		// The count begins again when spec.backup is set again, and earlier NotesBackups may exist.
		q.seed = fmt.Sprintf("%s/%d", s.sn.UID, before.ObservedSchedule.Since.Unix())
	}
	return s.createRequested(q)
}

// backUpRotation creates the backup that follows a complete rotation. all are the backups of this
// object and of earlier ones.
func (r *Reconciler) backUpRotation(ctx context.Context, s *scope, all []v1alpha1.NotesBackup, version int64, at time.Time) error {
	status := s.sn.Status.Backup
	if version <= status.HandledRotation || !s.hasKeys || ptr.Deref(s.sn.Spec.Backup.Suspend, false) {
		return nil
	}
	name := fmt.Sprintf("%s-after-v%d", s.sn.Name, version)
	// An earlier object of the same name had versions of the same numbers. The status of its backup
	// may be lost.
	if slices.ContainsFunc(all, func(nb v1alpha1.NotesBackup) bool {
		return nb.Name == name && (!ofObject(s.sn, &nb) || nb.CreationTimestamp.Time.Before(at.Add(-clockSkew)))
	}) {
		name, at = name+"-"+shortHash(string(s.sn.UID)), time.Time{}
	}
	exists, err := r.createBackup(ctx, s, name, v1alpha1.BackupByRotation, at)
	if exists {
		status.HandledRotation = version
	}
	return err
}

// backupCalendar returns the schedule of the backups.
func (r *Reconciler) backupCalendar(ctx context.Context, s *scope) calendar {
	status := s.sn.Status.Backup
	return calendar{
		Policy: backupPolicy(s.sn), what: "backup", observed: &status.ObservedSchedule, handled: &status.LastScheduleTime, next: &status.NextTime,
		firstSeen: s.firstSeen(), trouble: &s.backupFinding,
		running: slices.ContainsFunc(s.backupList, func(nb v1alpha1.NotesBackup) bool {
			return nb.Labels[v1alpha1.LabelScheduled] == "true" && backups.Open(&nb)
		}),
		create: func(due time.Time) (bool, error) {
			return r.createBackup(ctx, s, scheduledName(s.sn, due), v1alpha1.BackupBySchedule, due)
		},
	}
}

// backupPolicy returns the schedule of spec.backup.
func backupPolicy(sn *v1alpha1.SecureNotes) schedule.Policy {
	policy := sn.Spec.Backup
	return schedule.Policy{
		Field: "spec.backup", Schedule: policy.Schedule, TimeZone: cmp.Or(policy.TimeZone, operand.DefaultTimeZone), Suspend: ptr.Deref(policy.Suspend, false),
	}
}

// newBackup returns a NotesBackup. The SecureNotes does not own it, because it outlives the
// SecureNotes.
func newBackup(sn *v1alpha1.SecureNotes, name string) *v1alpha1.NotesBackup {
	return &v1alpha1.NotesBackup{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: sn.Namespace, Labels: operand.Labels(sn, operand.ComponentBackup)},
		Spec:       v1alpha1.NotesBackupSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}},
	}
}

// createBackup creates a backup, and reports whether it exists.
func (r *Reconciler) createBackup(ctx context.Context, s *scope, name string, by v1alpha1.BackupCreator, due time.Time) (exists bool, err error) {
	nb, existing := newBackup(s.sn, name), &v1alpha1.NotesBackup{}
	if by == v1alpha1.BackupBySchedule {
		nb.Labels[v1alpha1.LabelScheduled] = "true"
	}
	exists, err = createOnce(ctx, r, s, wanted[*v1alpha1.NotesBackup, v1alpha1.BackupCreator]{
		object: nb, kind: "NotesBackup", reason: "BackupCreated", action: "BackUp", due: due,
		createdBy: func(nb *v1alpha1.NotesBackup) *v1alpha1.BackupCreator { return &nb.Status.CreatedBy }, by: by,
		existing: existing, same: func() bool { return existing.Spec == nb.Spec && ofObject(s.sn, existing) },
		trouble: &s.backupFinding,
	})
	if exists && !slices.ContainsFunc(s.backupList, func(nb v1alpha1.NotesBackup) bool { return nb.Name == name }) {
		s.backupList = append(s.backupList, *nb) // the cache does not hold it yet
	}
	return exists, err
}
