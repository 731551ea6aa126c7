package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/truncate"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
)

const (
	// maxDeletions bounds the backups that one run deletes. The next run continues.
	maxDeletions = 100
	// maxBackupBytes bounds the size that a manifest may say, in bytes: 64 TiB, so that the sum of
	// all backups in a destination is less than 2^60.
	maxBackupBytes = 1 << 46
	// maxDeletionError bounds [config.DestinationReport.DeletionError], in bytes.
	maxDeletionError = 512
)

// owned is a backup of the same SecureNotes with a valid signature, also one by a version of the
// key that a Compromise ended.
type owned struct {
	id                  string
	sequence            int64
	started, completed  time.Time
	size, oldestVersion int64
	deployment          string
	ended, whole        bool
	escrow              bool
}

// retain deletes the backups that are over Settings.Keep, and records what the destination has. The
// new backup exists whatever happens here.
func (b *Backup) retain(ctx context.Context, made *Made) {
	report := &config.DestinationReport{ListedAt: b.now()}
	all, err := b.listOwned(ctx, report)
	if err != nil {
		b.Log.Warn("the backup is complete, but then the destination could not be listed, so no backup is deleted and none is counted", "destination", b.Destination.String(), "error", err.Error())
		return
	}
	if keep := b.Settings.Keep; keep != nil {
		over := overKeep(all, *keep, b.Deployment.ID, made.Manifest.ID, b.reference())
		if len(over) > maxDeletions {
			b.Log.Info("more backups are over keep than one run deletes; the next one continues", "backups", len(over), "limit", maxDeletions)
			over = over[:maxDeletions]
		}
		made.Deleted, err = b.deleteBackups(ctx, over)
		if err != nil {
			b.Log.Warn("a backup that is over keep was not deleted", "error", err.Error())
			report.DeletionError, report.DeletionRefused = deletionError(err), errors.Is(err, destination.ErrDenied)
		}
	}
	report.Deleted = int64(len(made.Deleted))
	all = slices.DeleteFunc(all, func(o owned) bool { return slices.Contains(made.Deleted, o.id) })
	b.summarize(all, report)
	made.Destination = report
}

// listOwned returns the backups of the same SecureNotes, and counts the manifests that are not
// valid.
func (b *Backup) listOwned(ctx context.Context, report *config.DestinationReport) ([]owned, error) {
	keys, err := b.Signer.BackupKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the public keys of the backup key: %w", err)
	}
	var all []owned
	err = scan(ctx, b.Destination, keys, func(found Found) {
		m := cmp.Or(found.Manifest, found.ended)
		switch {
		case m == nil:
			report.Invalid++
		case m.Deployment.SecureNotesUID == b.Settings.SecureNotesUID:
			all = append(all, describe(found, m))
		}
	})
	return all, err
}

func describe(found Found, m *archive.Manifest) owned {
	return owned{
		id: m.ID, sequence: m.Sequence, started: m.StartedAt, completed: m.CompletedAt, size: sizeOf(m),
		oldestVersion: int64(m.MasterKey.OldestVersion), deployment: m.Deployment.ID,
		ended: found.Manifest == nil, whole: found.whole, escrow: m.Escrow != nil,
	}
}

// sizeOf returns the size of the archive and the escrow file.
func sizeOf(m *archive.Manifest) int64 {
	size := m.Archive.Size
	if m.Escrow != nil {
		size = addSizes(size, m.Escrow.Size)
	}
	return size
}

// addSizes adds sizes. The holder of a version of the key that has ended can sign any number.
func addSizes(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// isLaterThan is isLater for what was listed.
func (o owned) isLaterThan(other owned) bool {
	return o.sequence > other.sequence || o.sequence == other.sequence && o.completed.After(other.completed)
}

// overKeep returns the backups of the deployment that keep no longer keeps, the oldest first. The
// new backup is not among them.
//
// Other people may write to the destination, so only good backups count as the newest ones: those
// that the version of the key in use signed, and whose files are there. A forged, copied or damaged
// one does not take the place of one that a person can restore. A Compromise ends a version because
// others may have signed with it; backups of such a version are kept until there are enough newer
// good ones, whatever their sequence is.
func overKeep(all []owned, keep config.Keep, deployment, made string, now time.Time) []owned {
	var good []owned
	for _, o := range all {
		if o.deployment == deployment && o.whole && !o.ended {
			good = append(good, o)
		}
	}
	// The newest good one is always kept.
	count := max(keep.Count, 1)
	if len(good) < count {
		return nil
	}
	slices.SortFunc(good, func(a, b owned) int { return compareAge(b, a) })
	last := good[count-1]
	var over []owned
	for _, o := range all {
		among := !o.ended && !last.isLaterThan(o)
		younger := keep.Age > 0 && now.Sub(o.started) < time.Duration(keep.Age)
		if o.deployment == deployment && o.id != made && !among && !younger {
			over = append(over, o)
		}
	}
	slices.SortFunc(over, compareAge)
	return over
}

// compareAge orders backups from the oldest to the newest.
func compareAge(a, b owned) int {
	return cmp.Or(cmp.Compare(a.sequence, b.sequence), a.completed.Compare(b.completed), strings.Compare(a.id, b.id))
}

// deleteBackups deletes backups until one fails, and returns the ids of those that no longer exist.
func (b *Backup) deleteBackups(ctx context.Context, over []owned) (deleted []string, err error) {
	for _, o := range over {
		// Without its manifest there is no backup. What is left if the next deletions fail, or if
		// the process is killed, is removed as what a failed backup leaves.
		if err := b.Destination.Delete(ctx, archive.ManifestName(o.id)); err != nil {
			return deleted, err
		}
		deleted = append(deleted, o.id)
		b.Log.Info("deleted a backup that is over keep", "id", o.id, "sequence", o.sequence, "started", o.started)
		for _, rekeyed := range []bool{false, true} {
			for _, kind := range []archive.Kind{archive.KindArchive, archive.KindEscrow} {
				if err := b.Destination.Delete(ctx, archive.Name(o.id, kind, rekeyed)); err != nil {
					return deleted, err
				}
			}
		}
	}
	return deleted, nil
}

// deletionError returns the text of an error for a report: one line of printable text.
func deletionError(err error) string {
	line := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, err.Error())
	return truncate.Bytes(line, maxDeletionError)
}

// summarize counts backups. A manifest with a time or a size that no backup has counts as invalid.
// But the clock of the node may have been wrong, so it still says which key versions are needed.
func (b *Backup) summarize(all []owned, report *config.DestinationReport) {
	for i, o := range all {
		if i == 0 || o.oldestVersion < report.OldestKeyVersion {
			report.OldestKeyVersion = o.oldestVersion
		}
		if o.impossible() {
			report.Invalid++
			b.Log.Warn("a manifest in the destination has a time or a size that no backup has, and counts as invalid", "id", o.id, "started", o.started, "bytes", o.size)
			continue
		}
		if report.Backups == 0 || o.started.Before(report.OldestAt) {
			report.OldestAt = o.started
		}
		report.Backups++
		report.Bytes += o.size
		if !o.escrow {
			report.WithoutEscrow++
		}
	}
}

// impossible reports whether no backup has such a time or size.
func (o owned) impossible() bool {
	return o.started.Before(config.EarliestBackup) || o.size > maxBackupBytes
}
