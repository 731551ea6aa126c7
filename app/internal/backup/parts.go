package backup

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// What this package needs of the others.

// Source is the database that a backup reads. See [store.Backups] and [store.RowCounts].
type Source interface {
	Snapshot(context.Context) (store.Snapshot, error)
	CountRows(context.Context, store.Table) (int64, error)
}

// Signer has the backup key.
type Signer interface {
	// SignBackup returns an Ed25519 signature in Vault's format, PROVIDER:vVERSION:BASE64.
	SignBackup(ctx context.Context, message []byte) (string, error)
	KeyReader
}

// KeyReader reads the public keys of the backup key.
type KeyReader interface {
	BackupKeys(context.Context) (*config.BackupKeys, error)
}

// VersionReader reads the versions of the master key.
type VersionReader interface {
	MasterKeyVersions(context.Context) (*vault.KeyVersions, error)
}

// PepperReader reads the pepper of the configuration.
type PepperReader interface {
	Pepper(context.Context) (*config.Pepper, error)
}

// IdentityReader reads the identities of the drill.
type IdentityReader interface {
	// DrillIdentity reads the value of an entry. Error: vault.ErrNotFound.
	DrillIdentity(ctx context.Context, entry string) (*config.DrillIdentity, error)
}

// PepperCreator creates a pepper beside that of the configuration.
type PepperCreator interface {
	// CreatePepper stores the pepper in a new entry. It replaces nothing.
	CreatePepper(ctx context.Context, entry string, pepper *config.Pepper) error
}

// Phase shows the progress of one phase of a run, which counts what it is named after.
type Phase func(ctx context.Context, what string, work func(ctx context.Context, report Report) error) error

// Report sets how much of a phase is done, and the total.
type Report func(done, total int64)
