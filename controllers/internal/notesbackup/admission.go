package notesbackup

import (
	"context"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// maxQueued is how many backups of one SecureNotes wait for their turn or run.
const maxQueued = 20

// failTooMany fails a backup that would lengthen the queue without end.
var failTooMany = step{
	Name: "FailTooMany",
	Due: func(o observed) (decision, bool) {
		if backups.Started(o.backup) || o.queued < maxQueued {
			return steps.NotDue()
		}
		return steps.FailingForGood(v1alpha1.ReasonTooManyBackups, "%d older NotesBackups of SecureNotes %s have not ended: delete those that are not needed, or wait for them; then create another",
			o.queued, o.backup.Spec.SecureNotesRef.Name)
	},
}

// failOrphaned fails a started backup whose SecureNotes no longer exists. A backup that exists is
// still recorded.
var failOrphaned = step{
	Name: "FailOrphaned",
	Due: func(o observed) (decision, bool) {
		if o.parent != nil || !backups.Started(o.backup) || o.job.Phase == trustedjob.Complete {
			return steps.NotDue()
		}
		return steps.FailingForGood(v1alpha1.ReasonSecureNotesNotFound,
			"SecureNotes %s, which this backup was started for, no longer exists or is being deleted", o.backup.Spec.SecureNotesRef.Name)
	},
}

// failNotConfigured fails a backup of a SecureNotes without spec.backup. A backup that exists is
// still recorded.
var failNotConfigured = step{
	Name: "FailNotConfigured",
	Due: func(o observed) (decision, bool) {
		if o.parent == nil || o.parent.Spec.Backup != nil || o.job.Phase == trustedjob.Complete {
			return steps.NotDue()
		}
		return steps.FailingForGood(v1alpha1.ReasonBackupNotConfigured,
			"SecureNotes %s has no spec.backup: set it, and create another NotesBackup", o.parent.Name)
	},
}

// failConfiguration fails a backup whose configuration cannot be built, or if another object has
// the name of its ConfigMap. Admission has checked spec.backup, but an object may have been stored
// under an older schema.
var failConfiguration = step{
	Name: "FailConfiguration",
	Due: func(o observed) (decision, bool) {
		if o.parent == nil {
			return steps.NotDue()
		}
		return o.configuration.Check("spec.backup of SecureNotes " + o.parent.Name)
	},
}

// awaitSecureNotes waits for the SecureNotes of a backup to be created.
var awaitSecureNotes = step{
	Name: "AwaitSecureNotes",
	Due: func(o observed) (decision, bool) {
		if o.parent != nil {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s does not exist in this namespace: create it, or delete this NotesBackup", o.backup.Spec.SecureNotesRef.Name)
	},
}

// awaitBackupKey waits until the SecureNotes has a key that signs backups. If its rights in Vault
// are those of an earlier release, it has none.
var awaitBackupKey = step{
	Name: "AwaitBackupKey",
	Due: func(o observed) (decision, bool) {
		unusable := meta.FindStatusCondition(o.parent.Status.Conditions, v1alpha1.ConditionBackupKeyUnusable)
		switch {
		case unusable != nil:
			return steps.Waiting(unusable.Reason, "SecureNotes %s: %s", o.parent.Name, unusable.Message)
		case o.parent.Status.BackupKeys != nil:
			return steps.NotDue()
		case o.setupCommand == "":
			return steps.Waiting(v1alpha1.ReasonSetupMissing, "SecureNotes %s has no key that signs backups: see its condition VaultReady", o.parent.Name)
		default:
			return steps.Waiting(v1alpha1.ReasonSetupMissing, "SecureNotes %s has no key that signs backups: the Vault administrator must run `%s`", o.parent.Name, o.setupCommand)
		}
	},
}

// awaitDatabase waits until the database has been in use: before that there is nothing to back up,
// and the Job would report that the data is lost.
var awaitDatabase = step{
	Name: "AwaitDatabase",
	Due: func(o observed) (decision, bool) {
		if database := o.parent.Status.Database; database != nil && database.InUse {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonSecureNotesNotReady, "SecureNotes %s has no database yet: see its conditions DatabaseReady and WorkloadReady", o.parent.Name)
	},
}

// awaitRollout waits until the pods of the API have been replaced. The first new one migrates the
// database, which the Job cannot.
var awaitRollout = step{
	Name: "AwaitRollout",
	Due: func(o observed) (decision, bool) {
		if o.rolledOut {
			return steps.NotDue()
		}
		return steps.WaitingForWorkload(o.parent, v1alpha1.ReasonRolloutPending, "waits until the pods of the API have been replaced",
			"check for an old pod that is stuck, for example on an unreachable node")
	},
}

// recordRestored ends a backup that had ended before a tool such as Velero restored its object
// without its status.
var recordRestored = step{
	Name: "RecordRestored",
	Due:  steps.When(func(o observed) bool { return backups.RestoredEnded(o.backup) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.backup, func(s *v1alpha1.NotesBackupStatus) { setRestored(o.backup, s) })
	},
}
