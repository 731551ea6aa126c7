package securenotes

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// Backups without escrow need the versions of the master key under which they were made. This file
// decides what waits for them: a trim, and the deletion of a SecureNotes with its keys. A
// retirement does not wait, but it is announced.

// listingHolds is how long a listing of the destination counts for a trim.
const listingHolds = 24 * time.Hour

// trimHold returns why backups hold a trim that keeps the versions from limit on, and how it is
// released, or nothing if none holds it.
func trimHold(s *scope, limit int64) string {
	if s.sn.Spec.Backup == nil {
		return ""
	}
	if why := neededBelow(s, limit); why != "" && s.sn.Annotations[v1alpha1.AnnotationTrimDespiteBackups] != strconv.FormatInt(limit, 10) {
		return fmt.Sprintf("%s. To accept that backups which need older versions can be restored only from their escrow, annotate the SecureNotes with %s=%d",
			why, v1alpha1.AnnotationTrimDespiteBackups, limit)
	}
	if open := oldestOpen(s.backupList); open != nil {
		return "NotesBackup " + open.Name + " has not ended: wait for its end, or delete it"
	}
	return ""
}

// neededBelow returns why a backup needs, or may need, a version below limit, or nothing if the
// newest listing of the destination shows that none does.
func neededBelow(s *scope, limit int64) string {
	status := s.sn.Status.Backup
	switch {
	case status == nil || status.Last == nil || status.Destination == nil || status.Destination.ObservedTime == nil:
		return "it is not known which versions backups need, because no complete backup has listed the destination: make a backup"
	case status.Last.Location != operand.BackupLocation(s.sn.Spec.Backup.Destination):
		return "it is not known which versions backups need, because spec.backup.destination has changed since the newest one: make a backup"
	}
	d := status.Destination
	if d.Backups > 0 && d.OldestKeyVersion < limit {
		oldest := ""
		if d.OldestTime != nil {
			oldest = ", the oldest of " + instant(d.OldestTime.Time) + ","
		}
		next := "wait until spec.backup.keep no longer keeps them"
		if s.sn.Spec.Backup.Keep == nil {
			next = "set spec.backup.keep, or delete them and then make a backup"
		}
		return fmt.Sprintf("backups in the destination%s need versions from %d on to be restored without escrow (%d of %d have no escrow): %s",
			oldest, d.OldestKeyVersion, d.WithoutEscrow, d.Backups, next)
	}
	// The clock of the node may be fast.
	if listed := earliest(d.ObservedTime.Time, status.Last.CompletionTime.Time); s.now.Sub(listed) >= listingHolds {
		return "it is not known which versions backups need, because the newest listing of the destination, of " + instant(listed) + ", is older than 24 h: make a backup"
	}
	return ""
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// holdTrim records that a trim waits. It is no failure: the trim continues as soon as nothing holds
// it.
func holdTrim(entry *v1alpha1.Retirement, why string) {
	entry.Reason, entry.Message, entry.RetryTime = v1alpha1.ReasonHeldByBackup, why, nil
}

// clearHolds removes what [holdTrim] recorded.
func clearHolds(list []v1alpha1.Retirement) {
	for i := range list {
		if list[i].Reason == v1alpha1.ReasonHeldByBackup {
			list[i].Reason, list[i].Message = "", ""
		}
	}
}

// heldTrim returns the newest retirement whose trim backups hold, or nil.
func heldTrim(sn *v1alpha1.SecureNotes) *v1alpha1.Retirement {
	if sn.Status.MasterKey == nil {
		return nil
	}
	list := sn.Status.MasterKey.Retirements
	i := slices.IndexFunc(list, func(r v1alpha1.Retirement) bool { return r.Reason == v1alpha1.ReasonHeldByBackup })
	if i < 0 {
		return nil
	}
	return &list[i]
}

// readForTrim reads the backups before a decision on a trim, and records the newest listing.
func (r *Reconciler) readForTrim(ctx context.Context, s *scope) error {
	if s.sn.Spec.Backup == nil || trimPolicy(s.sn) == nil {
		return nil
	}
	if _, err := r.readBackups(ctx, s); err != nil {
		return err
	}
	if s.sn.Status.Backup != nil {
		recordLastBackup(s)
	}
	return nil
}

// liveTrimHold is as [trimHold], but for the object and its backups as they are now, past the
// cache.
func (r *Reconciler) liveTrimHold(ctx context.Context, s *scope, latest *v1alpha1.SecureNotes, limit int64) (string, error) {
	if latest.Spec.Backup == nil {
		return "", nil
	}
	live := newScope(latest, s.env, s.now)
	if err := r.readLiveBackups(ctx, live); err != nil {
		return "", err
	}
	return trimHold(live, limit), nil
}

// readLiveBackups reads the backups of this object past the cache, and records the newest listing.
func (r *Reconciler) readLiveBackups(ctx context.Context, s *scope) error {
	list := &v1alpha1.NotesBackupList{}
	if err := r.Live.List(ctx, list, client.InNamespace(s.sn.Namespace)); err != nil {
		return err
	}
	s.backupList = slices.DeleteFunc(list.Items, func(nb v1alpha1.NotesBackup) bool {
		return nb.Spec.SecureNotesRef.Name != s.sn.Name || !ofObject(s.sn, &nb)
	})
	if s.sn.Status.Backup != nil {
		recordLastBackup(s)
	}
	return nil
}

// ignoredTrimConsent returns what the value of the annotation trim-despite-backups must be, or
// nothing if it is valid. The value of an earlier trim may stay.
func ignoredTrimConsent(s *scope) string {
	value, set := s.sn.Annotations[v1alpha1.AnnotationTrimDespiteBackups]
	if !set {
		return ""
	}
	version, err := strconv.ParseInt(value, 10, 64)
	if err != nil || version < 1 || strconv.FormatInt(version, 10) != value {
		return "the value must be the number of the oldest version that is kept"
	}
	held, policy := heldTrim(s.sn), trimPolicy(s.sn)
	if held == nil || policy == nil || version <= s.sn.Status.MasterKey.MinAvailableVersion ||
		slices.ContainsFunc(s.sn.Status.MasterKey.Retirements, func(r v1alpha1.Retirement) bool { return trimLimit(policy, r.ToVersion) == version }) {
		return ""
	}
	return fmt.Sprintf("the value must be %q", strconv.FormatInt(trimLimit(policy, held.ToVersion), 10))
}

// announceRetirements records which pending retirements will make a backup need a version that no
// longer decrypts, with an event for each such retirement.
func announceRetirements(s *scope) {
	var d v1alpha1.BackupDestinationStatus
	if status := s.sn.Status.Backup; s.sn.Spec.Backup != nil && status != nil && status.Destination != nil && status.Destination.Backups > 0 {
		d = *status.Destination
	}
	list := s.sn.Status.MasterKey.PendingRetirements
	for i := range list {
		entry, before := &list[i], list[i].NeededByBackup
		entry.NeededByBackup = 0
		if d.OldestKeyVersion < entry.ToVersion {
			entry.NeededByBackup = d.OldestKeyVersion
		}
		if before > 0 || entry.NeededByBackup == 0 {
			continue
		}
		kind := corev1.EventTypeNormal
		if d.WithoutEscrow > 0 {
			kind = corev1.EventTypeWarning
		}
		s.event(kind, "BackupNeedsVersion", "Retire", neededByBackup(s.sn, entry))
	}
}

// neededByBackup describes what a retirement means for backups, and what avoids it.
func neededByBackup(sn *v1alpha1.SecureNotes, entry *v1alpha1.PendingRetirement) string {
	message := fmt.Sprintf("the versions below %d stop decrypting after %s, and a backup in the destination needs version %d: from then on, the backup can be restored only from its escrow, or after the Vault administrator has allowed this version again",
		entry.ToVersion, instant(entry.Due.Time), entry.NeededByBackup)
	if !entry.Urgent {
		message += ". For later rotations, set spec.keyRotation.retainOldVersionFor longer or spec.backup.keep shorter"
	}
	if sn.Spec.Backup != nil && sn.Spec.Backup.Escrow == nil {
		message += ". Backups with spec.backup.escrow need no version"
	}
	return message
}

// withBackupNotes adds to the state of rotations what waits for backups, and which retirements
// affect them. Neither is a fault.
func withBackupNotes(s *scope) finding {
	f, key := s.rotationFinding, s.sn.Status.MasterKey
	if key == nil {
		return f
	}
	if held := heldTrim(s.sn); held != nil {
		if f.reason == v1alpha1.ReasonIdle {
			f.reason = v1alpha1.ReasonHeldByBackup
		}
		f.message += fmt.Sprintf("; the versions below %d are not destroyed yet: %s", held.ToVersion, held.Message)
	}
	for i := range key.PendingRetirements {
		if entry := &key.PendingRetirements[i]; entry.NeededByBackup > 0 {
			f.message += "; " + neededByBackup(s.sn, entry)
			break
		}
	}
	return f
}

// backupsHoldDeletion reports whether the deletion waits, because backups without escrow need the
// keys that it would destroy.
func (r *Reconciler) backupsHoldDeletion(ctx context.Context, s *scope) (bool, error) {
	annotations := s.sn.Annotations
	if s.sn.Spec.Backup == nil || s.sn.Status.Backup == nil ||
		annotations[v1alpha1.AnnotationDeleteDespiteBackups] == "true" || annotations[v1alpha1.AnnotationAbandonVault] == "true" {
		return false, nil
	}
	if err := r.readLiveBackups(ctx, s); err != nil {
		return false, err
	}
	var what string
	switch last, d := s.sn.Status.Backup.Last, s.sn.Status.Backup.Destination; {
	case last == nil:
		return false, nil
	case d == nil:
		what = "the destination was not listed after the newest backup, and it may have backups without escrow"
	case d.WithoutEscrow > 0:
		what = fmt.Sprintf("%d of %d backups in the destination have no escrow", d.WithoutEscrow, d.Backups)
	default:
		return false, nil
	}
	s.deletionHeld = what + ", which nobody can restore once the master key is destroyed: set spec.deletionPolicy to Retain to leave the keys in Vault; " +
		"or, if you have deleted these backups or give them up, annotate the SecureNotes with " + v1alpha1.AnnotationDeleteDespiteBackups + "=true"
	return true, nil
}
