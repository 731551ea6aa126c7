package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// sweepAge is how old the remains of a failed backup are when a later one removes them. No backup
// takes that long.
const sweepAge = 48 * time.Hour

// Backup is one run.
type Backup struct {
	Store       Source
	Destination destination.Destination
	Signer      Signer
	// MasterKey names the master key, and Versions has its versions.
	MasterKey string
	Versions  VersionReader
	// Keys and Peppers are for an escrow. Nil: none is written.
	Keys    *envelope.Keyring
	Peppers PepperReader

	Deployment config.Deployment
	// Settings are validated.
	Settings config.Backup
	// Program is the version of this program.
	Program string
	Phase   Phase
	Now     func() time.Time
	Log     *slog.Logger
}

// Made is a backup that exists.
type Made struct {
	Manifest *archive.Manifest
	// SHA256 is that of the manifest file, in hexadecimal.
	SHA256 string
	// SnapshotAt is when the database was read, VerifiedAt when the files had been read back, and
	// UploadedAt when the manifest had been written and read back.
	SnapshotAt, VerifiedAt, UploadedAt time.Time
	// Deleted are the ids of the backups that Settings.Keep no longer keeps, and that this run has
	// deleted.
	Deleted []string
	// Destination is what the destination has afterwards. Nil: it could not be listed.
	Destination *config.DestinationReport
}

// Run makes one backup, and then deletes those that Settings.Keep no longer keeps, whose failure is
// only in what it returns. If it returns an error, there is no new backup, unless only the answer
// to the last write was lost, or a check after it failed: what it wrote could not be read back, or
// a key version ended at that time. Every error can be retried, except a Refusal for another reason
// than ErrVersionsGone.
func (b *Backup) Run(ctx context.Context) (*Made, error) {
	recipients, escrow, err := b.recipients()
	if err != nil {
		return nil, err
	}
	b.sweep(ctx)
	started := b.now()
	sequence, err := b.nextSequence(ctx, started)
	if err != nil {
		return nil, err
	}
	m := &archive.Manifest{
		ID: archive.NewID(started), Sequence: sequence, StartedAt: started, Program: b.Program,
		Deployment: archive.Deployment{
			ID: b.Deployment.ID, Namespace: b.Deployment.Namespace, Name: b.Deployment.Name, SecureNotesUID: b.Settings.SecureNotesUID,
		},
	}
	snapshotAt, err := b.writeFiles(ctx, m, recipients, escrow)
	if err != nil {
		return nil, err
	}
	if err := b.readBack(ctx, m); err != nil {
		return nil, err
	}
	verifiedAt := b.now()
	if err := b.recordVersions(ctx, m); err != nil {
		return nil, err
	}
	m.CompletedAt = b.now()
	made, err := b.publish(ctx, m)
	if err != nil {
		return nil, err
	}
	made.SnapshotAt, made.VerifiedAt, made.UploadedAt = snapshotAt, verifiedAt, b.now()
	b.retain(ctx, made)
	return made, nil
}

// now returns the time as a manifest has it.
func (b *Backup) now() time.Time { return b.Now().UTC().Truncate(time.Second) }

// reference returns the time at which ages are measured: the start by the operator's clock, or now
// if that is earlier. If only the clock of this node is ahead, nothing is deleted too soon.
func (b *Backup) reference() time.Time {
	now := b.Now()
	if started := b.Settings.StartedAt; !started.IsZero() && started.Before(now) {
		return started
	}
	return now
}

func (b *Backup) recipients() (recipients, escrow []age.Recipient, err error) {
	if recipients, err = archive.ParseRecipients(b.Settings.Recipients); err != nil {
		return nil, nil, fmt.Errorf("backup.recipients: %w", err)
	}
	if b.Settings.Escrow == nil {
		return recipients, nil, nil
	}
	if escrow, err = archive.ParseRecipients(b.Settings.Escrow.Recipients); err != nil {
		return nil, nil, fmt.Errorf("backup.escrow.recipients: %w", err)
	}
	return recipients, escrow, nil
}

// sweep removes what failed backups have left. Credentials that cannot delete are no failure.
func (b *Backup) sweep(ctx context.Context) {
	removed, err := b.Destination.Sweep(ctx, b.reference().Add(-sweepAge))
	if removed > 0 {
		b.Log.Info("removed what failed backups have left", "destination", b.Destination.String(), "files", removed)
	}
	if err != nil && !errors.Is(err, destination.ErrDenied) {
		b.Log.Warn("what failed backups have left was not removed", "destination", b.Destination.String(), "error", err.Error())
	}
}

// nextSequence returns the number of this backup: the seconds since 1970, so that it also grows if
// the manifests of earlier backups are gone, or more than that of the newest one. That they cannot
// all be read is only worth a warning, because it would be so for every later backup, too.
func (b *Backup) nextSequence(ctx context.Context, started time.Time) (int64, error) {
	keys, err := b.Signer.BackupKeys(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the public keys of the backup key: %w", err)
	}
	var all []Found
	err = scan(ctx, b.Destination, keys, func(found Found) { all = append(all, found) })
	if ctx.Err() != nil {
		return 0, err
	}
	if err != nil {
		b.Log.Warn("the earlier backups could not all be read, so the number of this backup may not be the highest", "destination", b.Destination.String(), "error", err.Error())
	}
	for _, found := range all {
		if found.Err != nil {
			b.Log.Warn("a manifest in the destination is not valid, and is ignored", "id", found.ID, "error", found.Err.Error())
		}
	}
	least := max(started.Unix(), 1)
	switch last := newest(all, archive.Deployment{ID: b.Deployment.ID, SecureNotesUID: b.Settings.SecureNotesUID}); {
	case last == nil:
		return least, nil
	case last.Sequence == math.MaxInt64:
		return 0, refuse(archive.ErrDamaged, archive.ManifestName(last.ID), "its sequence is the highest number, which no backup reaches", "use another destination")
	default:
		return max(last.Sequence+1, least), nil
	}
}

// writeFiles writes archive and escrow from one snapshot, and records in the manifest what they
// are. It returns when the snapshot began.
func (b *Backup) writeFiles(ctx context.Context, m *archive.Manifest, recipients, escrow []age.Recipient) (at time.Time, err error) {
	snapshot, err := b.Store.Snapshot(ctx)
	if err != nil {
		return at, fmt.Errorf("begin to read the database: %w", err)
	}
	at = b.now()
	// An open snapshot keeps PostgreSQL from removing dead rows, so it ends before the rest.
	defer func() { err = errors.Join(err, snapshot.Close()) }()
	w, err := b.prepare(ctx, snapshot, m)
	if err != nil {
		return at, err
	}
	if err := w.writeArchive(ctx, m, recipients); err != nil {
		return at, fmt.Errorf("write the archive: %w", err)
	}
	if len(escrow) == 0 {
		return at, nil
	}
	if err := w.writeEscrow(ctx, m, escrow); err != nil {
		return at, fmt.Errorf("write the escrow file: %w", err)
	}
	return at, nil
}

// prepare reads what a backup says about the database besides its rows.
func (b *Backup) prepare(ctx context.Context, snapshot store.Snapshot, m *archive.Manifest) (*writing, error) {
	meta, err := snapshot.Meta(ctx)
	if err != nil {
		return nil, err
	}
	if err := deployment.CheckID(ctx, recordedID(meta.DeploymentID), b.Deployment); err != nil {
		return nil, err
	}
	w := &writing{Backup: b, snapshot: snapshot, meta: meta, census: newCensus()}
	if m.Schema, err = snapshot.Schema(ctx); err != nil {
		return nil, err
	}
	if w.tables, err = snapshot.Tables(ctx); err != nil {
		return nil, err
	}
	if w.fence, err = snapshot.Fence(ctx); err != nil {
		return nil, err
	}
	oldest, err := snapshot.OldestVersion(ctx)
	m.MasterKey = archive.MasterKey{Name: b.MasterKey, OldestVersion: oldest}
	return w, err
}

// recordedID is the deployment id that a database records.
type recordedID string

// DeploymentID implements deployment.IDReader.
func (id recordedID) DeploymentID(context.Context) (string, error) { return string(id), nil }
