// Package backups answers the questions about NotesBackups that more than one controller asks: has
// one ended, which is the newest, which may be deleted. Start with [List] and [Ended].
package backups

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/marks"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// Ended reports whether a backup is Complete or Failed, or had ended before a tool such as Velero
// restored its object.
func Ended(nb *v1alpha1.NotesBackup) bool {
	return Complete(nb) || Failed(nb) || IsTrue(nb, v1alpha1.ConditionRestored)
}

// Complete reports whether a backup has succeeded.
func Complete(nb *v1alpha1.NotesBackup) bool { return IsTrue(nb, v1alpha1.ConditionComplete) }

// Failed reports whether a backup has failed.
func Failed(nb *v1alpha1.NotesBackup) bool { return IsTrue(nb, v1alpha1.ConditionFailed) }

// Open reports whether a backup waits for its turn, or runs. One that is being deleted starts
// nothing any more, even if a finalizer keeps it; nor does one that had ended before a tool
// restored its object without its status.
func Open(nb *v1alpha1.NotesBackup) bool {
	return !Ended(nb) && !RestoredEnded(nb) && nb.DeletionTimestamp == nil
}

// RestoredEnded reports whether a backup had ended before a tool restored its object without its
// status, and that is not recorded yet.
func RestoredEnded(nb *v1alpha1.NotesBackup) bool {
	return marks.Ended(nb) && !Started(nb) && !Ended(nb)
}

// Started reports whether a backup has recorded that it starts.
func Started(nb *v1alpha1.NotesBackup) bool { return nb.Status.StartTime != nil }

// IsTrue reports whether a condition of a backup is True.
func IsTrue(nb *v1alpha1.NotesBackup, condition string) bool {
	return meta.IsStatusConditionTrue(nb.Status.Conditions, condition)
}

// ByAge compares two backups: the older one comes first. The name decides if both were created in
// the same second.
func ByAge(a, b *v1alpha1.NotesBackup) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// EndOf returns when a backup ended. It returns the time of creation, which is of the API server's
// clock, if the recorded time is missing or after now: the operator's clock was ahead then.
func EndOf(nb *v1alpha1.NotesBackup, now time.Time) time.Time {
	if end := nb.Status.CompletionTime; end != nil && !end.After(now) {
		return end.Time
	}
	return nb.CreationTimestamp.Time
}

// NewestComplete returns the complete backup that was created last, or nil if there is none. The
// backups of a SecureNotes run one after the other, in the order of their creation.
func NewestComplete(all []v1alpha1.NotesBackup) *v1alpha1.NotesBackup {
	return newest(all, Complete)
}

// NewestEnded returns the complete or failed backup that was created last, or nil if there is none.
func NewestEnded(all []v1alpha1.NotesBackup) *v1alpha1.NotesBackup {
	return newest(all, func(nb *v1alpha1.NotesBackup) bool { return Complete(nb) || Failed(nb) })
}

// newest returns the backup that was created last of those that are wanted.
func newest(all []v1alpha1.NotesBackup, wanted func(*v1alpha1.NotesBackup) bool) *v1alpha1.NotesBackup {
	var last *v1alpha1.NotesBackup
	for i := range all {
		if nb := &all[i]; wanted(nb) && (last == nil || ByAge(last, nb) < 0) {
			last = nb
		}
	}
	return last
}

const (
	// maxUnkept is how many complete NotesBackups are kept if spec.backup.keep is unset.
	maxUnkept = 100
	// maxFailed is how many NotesBackups that are not complete are kept. They tell why backups
	// fail.
	maxFailed = 10
)

// Prunable returns the ended backups that the operator created and that are no longer kept. Of the
// complete backups, it keeps those that keep keeps, or the newest 100 if keep is nil. As in the
// destination, all of them count, also those that a person created. Of the other ones that the
// operator created, it keeps the newest 10. The newest complete backup is always kept. What counts
// is the status, which those who may edit NotesBackups may not write: a label or a name could have
// another person's backup deleted.
func Prunable(all []v1alpha1.NotesBackup, keep *v1alpha1.BackupKeep, now time.Time) []v1alpha1.NotesBackup {
	count, age := maxUnkept, time.Duration(0)
	if keep != nil {
		count, age = operand.ResolveKeep(keep)
	}
	var ended []v1alpha1.NotesBackup
	for i := range all {
		if nb := &all[i]; Ended(nb) && nb.DeletionTimestamp == nil {
			ended = append(ended, *nb)
		}
	}
	slices.SortFunc(ended, func(a, b v1alpha1.NotesBackup) int { return ByAge(&b, &a) })
	complete, others := 0, 0
	return slices.DeleteFunc(ended, func(nb v1alpha1.NotesBackup) bool {
		created := nb.Status.CreatedBy != ""
		if Complete(&nb) {
			complete++
			return !created || complete == 1 || complete <= count || now.Sub(EndOf(&nb, now)) < age
		}
		if created {
			others++
		}
		return !created || others <= maxFailed
	})
}
