package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"filippo.io/age"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/backup/destination"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
)

// Target is the database that a restore fills. See [store.Store].
type Target interface {
	reencrypt.VerificationStore
	deployment.IDReader
	store.Backups
	store.Restoration
	Migrate(context.Context) (int, error)
	CountUsers(context.Context) (int64, error)
}

// Restore is one run.
type Restore struct {
	Target Target
	// TargetName names the database in messages.
	TargetName string
	Source     destination.Destination
	// ID names the backup in Source.
	ID string
	// PublicKeys, if set, are public keys that were kept elsewhere. Living has those of Vault.
	PublicKeys *config.BackupKeys
	Living     KeyReader
	// Identities open the archive, and the escrow file.
	Identities []age.Identity
	// FromEscrow uses the keys and peppers of the escrow, and nothing that Vault had before.
	FromEscrow bool
	// Older accepts a backup although there is a newer one.
	Older bool
	// EndedSHA256 is the SHA-256 of a manifest file that is accepted although a Compromise ended
	// the version of the key that signed it.
	EndedSHA256 string
	// Existing is what becomes of what the target has.
	Existing store.Existing
	// AcceptDamaged restores owner keys that do not unwrap and values that do not open as they are.
	AcceptDamaged bool

	// Provider has the master key, and MasterKey is its name.
	Provider  envelope.KeyProvider
	MasterKey string
	Peppers   PepperReader
	// NewPeppers is for a restore from an escrow.
	NewPeppers PepperCreator
	// Deployment is the one whose configuration this is.
	Deployment config.Deployment
	Phase      Phase
	Log        *slog.Logger
}

// Restored is what a restore did.
type Restored struct {
	Manifest *archive.Manifest
	// Rows is the number of rows.
	Rows int64
	// FromEscrow reports whether the keys are from the escrow. Then PepperEntry is the new entry
	// with its peppers.
	FromEscrow  bool
	PepperEntry string
	// PepperDigest is the [config.Pepper.Digest] that the database records.
	PepperDigest string
	// Fence is the least version of the master key that the database now accepts.
	Fence int
	// Verified is what was opened at the end.
	Verified reencrypt.Report
	// Damaged is what stays unreadable, with AcceptDamaged.
	Damaged Damaged
	// Before reports whether an earlier run had restored all of it, so that this one only verified
	// it.
	Before bool
}

// Run restores. A Refusal, store.ErrNotEmpty and store.ErrInUse mean that nothing has been written
// to the database, except that a Refusal because of ErrDamagedRows comes at the end if there is no
// escrow; with DeleteExisting, what the database had is then gone. After another error, and then,
// the database may be marked as one that a restore has not finished, which every release refuses; a
// repeated run starts over.
func (r *Restore) Run(ctx context.Context) (*Restored, error) {
	m, err := r.choose(ctx)
	if err != nil {
		return nil, err
	}
	if err := r.checkOrigin(m); err != nil {
		return nil, err
	}
	if err := r.checkTarget(ctx, m); errors.Is(err, store.ErrNotEmpty) {
		return r.repeated(ctx, m, err)
	} else if err != nil {
		return nil, err
	}
	found, err := r.examine(ctx, m, ignoreRows)
	if err != nil {
		return nil, err
	}
	plan, err := r.plan(ctx, m, found)
	if err != nil {
		return nil, err
	}
	if !r.AcceptDamaged {
		if err := found.damaged.refuse(m, nextIfDamaged); err != nil {
			return nil, err
		}
	}
	// Everything is verified. Now the writes begin.
	return r.write(ctx, plan)
}

// write is every step of a restore that writes.
func (r *Restore) write(ctx context.Context, p *plan) (*Restored, error) {
	if _, err := r.Target.Migrate(ctx); err != nil {
		return nil, err
	}
	// Before the database is marked: the right to create the entry may be missing.
	if p.newPepper != nil {
		if err := r.NewPeppers.CreatePepper(ctx, p.pepperEntry, p.newPepper); err != nil {
			return nil, fmt.Errorf("create the pepper: %w", err)
		}
		r.Log.Info("created the entry for the peppers of the escrow", "entry", p.pepperEntry, "sha256", p.meta.PepperDigest)
	}
	run := strings.ToLower(rand.Text())
	if err := r.Target.StartRestore(ctx, run, p.meta, r.Existing); err != nil {
		return nil, fmt.Errorf("begin the restore: %w", r.named(err))
	}
	if err := r.load(ctx, run, p); err != nil {
		return nil, err
	}
	verified, err := r.verify(ctx, p.manifest, p.keys, p.damaged)
	if err != nil {
		return nil, fmt.Errorf("verify the restored rows, in a database that stays marked until a restore has finished: %w", err)
	}
	if err := r.Target.FinishRestore(ctx, run, p.meta, p.fence, p.manifest.Rows); err != nil {
		return nil, fmt.Errorf("finish the restore: %w", err)
	}
	return &Restored{
		Manifest: p.manifest, Rows: totalRows(p.manifest), FromEscrow: r.FromEscrow, PepperEntry: p.pepperEntry,
		PepperDigest: p.meta.PepperDigest, Fence: p.fence, Verified: verified.Report, Damaged: verified.damaged,
	}, nil
}

// nextIfDamaged is what to do about a backup with damage.
const nextIfDamaged = "restore another backup, or run the restore again with --accept-damaged, which restores all the rest, and leaves these as they are: unreadable"

// verified is what a verification of the target has found.
type verified struct {
	reencrypt.Report
	damaged Damaged
}

// verify unwraps every owner key as it is stored, and opens one value of each table under it. The
// digests prove that the rows are those that were backed up. backedUp is the damage that the
// archive has, if every value in it was opened.
func (r *Restore) verify(ctx context.Context, m *archive.Manifest, keys *envelope.Keyring, backedUp Damaged) (*verified, error) {
	v := &verified{}
	err := r.Phase(ctx, "owner keys verified", func(ctx context.Context, progress Report) (err error) {
		verification := &reencrypt.Verification{
			Store: r.Target, Keys: keys, Strategy: reencrypt.Reencrypt, Urgent: true, Progress: progress, Damaged: v.damaged.add,
			// The fence is raised last, so no version is too old yet.
			To: 0,
		}
		v.Report, err = verification.Run(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	if got, want := v.Keys+v.damaged.keys, m.Rows[archive.TableOwnerKeys]; got != want {
		return nil, fmt.Errorf("%w: %d owner keys, not %d", store.ErrForeignRows, got, want)
	}
	if r.FromEscrow && v.damaged.Total <= backedUp.Total {
		v.damaged = backedUp // which is complete
	} else if r.FromEscrow {
		return nil, fmt.Errorf("%w: %d values are damaged that are not in the backup: %s", store.ErrForeignRows, v.damaged.Total-backedUp.Total, &v.damaged)
	}
	if !r.AcceptDamaged {
		return v, v.damaged.refuse(m, nextIfDamaged)
	}
	return v, nil
}

func totalRows(m *archive.Manifest) (total int64) {
	for _, rows := range m.Rows {
		total += rows
	}
	return total
}

// checkTarget refuses a database that has data, or that is another deployment's, before anything
// is written to it.
func (r *Restore) checkTarget(ctx context.Context, m *archive.Manifest) error {
	id, err := r.Target.DeploymentID(ctx)
	if errors.Is(err, store.ErrNoMeta) {
		id, err = "", nil
	}
	if err != nil {
		return err
	}
	if _, restoring := store.Restoring(id); restoring {
		return r.named(r.Target.CheckRestore(ctx, r.belongsTo(), r.Existing))
	}
	users, err := r.Target.CountUsers(ctx)
	if errors.Is(err, store.ErrSchema) {
		users, err = 0, nil // an empty database has no tables
	}
	switch {
	case err != nil:
		return err
	case users > 0 && r.Existing == store.RefuseExisting:
		return fmt.Errorf("%w: %d in %s: restore into an empty database, delete everything in it with --overwrite, or correct the database URI if this is the wrong one", store.ErrNotEmpty, users, r.TargetName)
	case id != "" && id != r.Deployment.ID && id != m.Deployment.ID:
		return r.named(fmt.Errorf("%w: it belongs to deployment %s: correct the database URI", deployment.ErrOtherDeployment, id))
	}
	return r.named(r.Target.CheckRestore(ctx, r.belongsTo(), r.Existing))
}

// named names the target in an error.
func (r *Restore) named(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", r.TargetName, err)
}
