package securenotes

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// setBackupHealthy sets the condition BackupHealthy. While spec.backup is unset, it removes the
// condition and status.backup, except the identities of the drill that are still to be destroyed.
func setBackupHealthy(s *scope, status *v1alpha1.SecureNotesStatus) {
	if s.sn.Spec.Backup == nil {
		drill := operand.DrillStatus(s.sn)
		status.Backup = nil
		if len(drill.Identities) > 0 || drill.NextIdentity != nil {
			status.Backup = &v1alpha1.BackupStatus{Drill: &v1alpha1.DrillStatus{Identities: drill.Identities, NextIdentity: drill.NextIdentity}}
		}
		meta.RemoveStatusCondition(&status.Conditions, v1alpha1.ConditionBackupHealthy)
		return
	}
	setFinding(s.sn, status, v1alpha1.ConditionBackupHealthy, s.backupFinding)
}

// backupHealth returns the state of the backups: faults first. It asks for a pass when the next
// backup is overdue.
func backupHealth(s *scope) finding {
	if f, decided := backupRights(s); decided {
		return f
	}
	status := s.sn.Status.Backup
	if status == nil {
		return finding{} // spec.backup was set while spec.suspend was true
	}
	open := oldestOpen(s.backupList)
	if open != nil {
		if c := blockedBackup(open); c != nil {
			return bad(c.reason, "NotesBackup "+open.Name+" is blocked: "+c.message)
		}
	}
	if nb := backups.NewestEnded(startedBackups(s)); nb != nil && backups.Failed(nb) && lastComplete(s).Before(backups.EndOf(nb, s.now)) {
		return failedBackup(s, nb, open)
	}
	if f := overdueBackup(s, open); f.known() {
		return f
	}
	if d := status.Destination; d != nil && d.DeletionRefused && s.sn.Spec.Backup.Keep != nil {
		return bad(v1alpha1.ReasonDeletionRefused, fmt.Sprintf(
			"backups that spec.backup.keep no longer keeps were not deleted: %s: allow the credentials of the destination to delete, or remove keep and leave deletion to the bucket", d.DeletionError))
	}
	switch {
	case open != nil && status.Last == nil:
		return unknown(v1alpha1.ReasonBackingUp, progressOf(open))
	case open != nil:
		return good(v1alpha1.ReasonBackingUp, progressOf(open))
	case status.Last != nil:
		message := "the newest backup is NotesBackup " + status.Last.Name + ", complete at " + instant(status.Last.CompletionTime.Time)
		if status.NextTime != nil && !s.suspended {
			message += "; the next one is scheduled for " + instant(status.NextTime.Time)
		}
		return good(v1alpha1.ReasonBackupComplete, message)
	default:
		return unknown(v1alpha1.ReasonUnknown, "no backup has ended yet")
	}
}

func instant(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// backupRights returns why no backup can be signed, and whether that decides the state of the
// backups. A zero finding leaves the condition as it is: it is not known whether there is a key.
func backupRights(s *scope) (f finding, decided bool) {
	switch problem := s.backupKeyProblem; {
	case s.key == nil: // Vault was not asked
		return finding{}, s.sn.Status.BackupKeys == nil
	case problem == nil:
		return finding{}, false
	case vaultadmin.OfFeature(problem):
		return s.rightsMissing(problem), true
	default:
		return bad(string(vaultadmin.ProblemOf(problem)), problem.Error()+": no backup can be signed; see the condition "+v1alpha1.ConditionBackupKeyUnusable), true
	}
}

// oldestOpen returns the oldest backup that waits or runs, or nil.
func oldestOpen(list []v1alpha1.NotesBackup) *v1alpha1.NotesBackup {
	var oldest *v1alpha1.NotesBackup
	for i := range list {
		if nb := &list[i]; backups.Open(nb) && (oldest == nil || backups.ByAge(nb, oldest) < 0) {
			oldest = nb
		}
	}
	return oldest
}

// unblocked are the reasons of Reconciling of a backup that is not blocked, or whose trouble is
// reported elsewhere.
var unblocked = []string{
	v1alpha1.ReasonQueued, v1alpha1.ReasonSuspended, v1alpha1.ReasonSecureNotesNotFound, v1alpha1.ReasonSecureNotesNotReady,
	v1alpha1.ReasonRolloutPending, v1alpha1.ReasonBackingUp,
}

// blockedBackup returns why a backup that has not ended is blocked, or nil if it makes progress or
// waits for its turn.
func blockedBackup(nb *v1alpha1.NotesBackup) *finding {
	c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || slices.Contains(unblocked, c.Reason) {
		return nil
	}
	return &finding{reason: c.Reason, message: c.Message}
}

// progressOf returns what a backup that has not ended does or waits for.
func progressOf(nb *v1alpha1.NotesBackup) string {
	if c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionReconciling); c != nil && c.Reason != v1alpha1.ReasonBackingUp {
		return "NotesBackup " + nb.Name + " waits: " + c.Message
	}
	return "NotesBackup " + nb.Name + " is being made"
}

// failedBackup quotes why the newest backup has failed. It stays False until one completes, so that
// a destination that is lost does not look healthy during each attempt.
func failedBackup(s *scope, nb, open *v1alpha1.NotesBackup) finding {
	reason, message := v1alpha1.ReasonBackupFailed, "NotesBackup "+nb.Name+" has failed"
	if c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionFailed); c != nil {
		reason, message = c.Reason, message+": "+c.Message
	}
	next := s.sn.Status.Backup.NextTime
	switch {
	case open != nil:
		message += "; " + progressOf(open)
	case next != nil && !s.suspended:
		message += "; the next one is scheduled for " + instant(next.Time)
	}
	return bad(reason, message)
}

// leastOverdue is how long a backup is at least waited for.
const leastOverdue = 26 * time.Hour

// overdueBackup reports that no backup has completed for too long: neither since the last but one
// scheduled time, nor in 26 hours, nor in 26 hours since one was created. Otherwise it asks for a
// pass when that is so.
func overdueBackup(s *scope, open *v1alpha1.NotesBackup) finding {
	policy, status := backupPolicy(s.sn), s.sn.Status.Backup
	if policy.Schedule == "" || policy.Suspend || s.suspended || status.ObservedSchedule == nil {
		return finding{}
	}
	since, what := status.ObservedSchedule.Since.Time, "no backup has completed since the schedule was set or changed at "
	if last := lastComplete(s); last.After(since) {
		since, what = last, "no backup has completed since "
	}
	at := schedule.After(policy, 2, since)
	if at.IsZero() {
		return finding{}
	}
	at = latest(at, since.Add(leastOverdue))
	next := "see the condition " + v1alpha1.ConditionVaultReady + " and `kubectl get notesbackups` for the reason"
	if open != nil {
		at, next = latest(at, open.CreationTimestamp.Add(leastOverdue)), progressOf(open)
	}
	if s.now.Before(at) {
		s.requeueAfter(at.Sub(s.now), "the time at which a backup is overdue")
		return finding{}
	}
	return bad(v1alpha1.ReasonBackupOverdue, what+instant(since)+": "+next)
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
