package notesbackup

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

func setCondition(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus, kind string, status metav1.ConditionStatus, reason, message string) {
	meta.SetStatusCondition(&s.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: message, ObservedGeneration: nb.Generation,
	})
}

// setInitial sets Complete to False if it is missing, so that it is present from the first pass.
func setInitial(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus) {
	if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionComplete) == nil {
		setCondition(nb, s, v1alpha1.ConditionComplete, metav1.ConditionFalse, v1alpha1.ReasonProgressing, "not yet")
	}
}

// setWaiting sets the condition that says what a backup waits for, or does.
func setWaiting(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus, reason, message string) {
	setInitial(nb, s)
	setCondition(nb, s, v1alpha1.ConditionReconciling, metav1.ConditionTrue, reason, message)
	s.State = v1alpha1.ReasonQueued
	if s.StartTime != nil {
		s.State = v1alpha1.ReasonBackingUp
	}
}

// setEnded records when the backup ended, and how long it took.
func setEnded(s *v1alpha1.NotesBackupStatus, state string, now time.Time) {
	s.State, s.CompletionTime = state, new(metav1.NewTime(now))
	if s.StartTime != nil {
		s.DurationSeconds = max(int64(now.Sub(s.StartTime.Time)/time.Second), 0)
	}
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}

func setComplete(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus, report config.BackupReport, now time.Time) {
	setEnded(s, v1alpha1.ReasonComplete, now)
	s.BackupResult = resultOf(report, s.Location)
	s.Destination = destinationOf(report.Destination)
	setCondition(nb, s, v1alpha1.ConditionComplete, metav1.ConditionTrue, v1alpha1.ReasonComplete, completeMessage(nb))
}

func completeMessage(nb *v1alpha1.NotesBackup) string {
	return fmt.Sprintf("backup %s of %d notes is in %s", nb.Status.ID, nb.Status.Notes, nb.Status.Location)
}

func resultOf(report config.BackupReport, location string) v1alpha1.BackupResult {
	return v1alpha1.BackupResult{
		ID: report.ID, Location: location, Sequence: report.Sequence,
		Notes: report.Notes, Accounts: report.Accounts, Bytes: report.Bytes, Escrow: report.Escrow,
		SHA256: report.ArchiveSHA256, ManifestSHA256: report.ManifestSHA256,
		OldestKeyVersion: report.OldestKeyVersion, NewestKeyVersion: report.NewestKeyVersion,
		SnapshotTime: timeOf(report.SnapshotAt), VerificationTime: timeOf(report.VerifiedAt), UploadTime: timeOf(report.UploadedAt),
	}
}

func destinationOf(report *config.DestinationReport) *v1alpha1.BackupDestinationStatus {
	if report == nil {
		return nil
	}
	return &v1alpha1.BackupDestinationStatus{
		ObservedTime: timeOf(report.ListedAt), Backups: report.Backups, Bytes: report.Bytes,
		OldestTime: timeOf(report.OldestAt), OldestKeyVersion: report.OldestKeyVersion, WithoutEscrow: report.WithoutEscrow,
		Invalid: report.Invalid, Deleted: report.Deleted, DeletionError: report.DeletionError, DeletionRefused: report.DeletionRefused,
	}
}

// timeOf returns nil for the zero time.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return new(metav1.NewTime(t))
}

func setFailed(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus, d decision, now time.Time) {
	setInitial(nb, s)
	setEnded(s, v1alpha1.ConditionFailed, now)
	message := d.Message
	if !d.Final {
		message += ". Once the cause is corrected, create another NotesBackup, or wait for the schedule"
	}
	setCondition(nb, s, v1alpha1.ConditionFailed, metav1.ConditionTrue, d.Reason, message)
	setCondition(nb, s, v1alpha1.ConditionStalled, metav1.ConditionTrue, d.Reason, message)
}

// setRestored ends a restored backup. It claims no success: anyone who may edit the object may have
// written the annotation.
func setRestored(nb *v1alpha1.NotesBackup, s *v1alpha1.NotesBackupStatus) {
	message := fmt.Sprintf("its annotation %s says that this NotesBackup had ended before its object was restored. "+
		"It does not start again, and what it did is not known. To back up, create another NotesBackup", v1alpha1.AnnotationEnded)
	setInitial(nb, s)
	s.State = v1alpha1.ConditionRestored
	setCondition(nb, s, v1alpha1.ConditionRestored, metav1.ConditionTrue, v1alpha1.ConditionRestored, message)
	meta.RemoveStatusCondition(&s.Conditions, v1alpha1.ConditionReconciling)
}

// patchStatus writes what change does to the status, if anything.
func (r *Reconciler) patchStatus(ctx context.Context, nb *v1alpha1.NotesBackup, change func(*v1alpha1.NotesBackupStatus)) error {
	return steps.PatchStatus(ctx, r.Client, nb, func() {
		change(&nb.Status)
		nb.Status.ObservedGeneration, nb.Status.Reason = nb.Generation, steps.ReasonOf(nb.Status.State, nb.Status.Conditions)
	})
}

func (r *Reconciler) event(nb *v1alpha1.NotesBackup, parent *v1alpha1.SecureNotes, kind, reason, message string) {
	if parent == nil {
		r.Recorder.Eventf(nb, nil, kind, reason, "Backup", "%s", message)
		return
	}
	r.Recorder.Eventf(nb, parent, kind, reason, "Backup", "%s", message)
}
