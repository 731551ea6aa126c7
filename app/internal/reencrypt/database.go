package reencrypt

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// What this package needs of the database. [store.Rotation] documents the methods.

// JobStore is the database of a Job.
type JobStore interface {
	deployment.MetaReader
	staleCounter
	userCounter
	ReplaceCanary(ctx context.Context, to int, old, renewed store.Meta) error
	RaiseFence(ctx context.Context, to int) error
	EndSessions(ctx context.Context, to int, began time.Time) (int64, error)
	OwnersKeys(ctx context.Context, owners []string, tables []store.SealedTable) ([]store.RotationKey, error)
	ReplaceActiveKeys(ctx context.Context, to int, keys []envelope.StoredKey, now time.Time) error
	SealedRows(ctx context.Context, t store.SealedTable, owner, key, after string, limit int) ([]store.SealedRow, bool, error)
	ReplaceSealed(ctx context.Context, to int, t store.SealedTable, owner, oldKey, newKey string, batch []store.SealedRow) (int64, error)
	DeleteReplacedKeys(ctx context.Context, to int, keys []envelope.StoredKey) (bool, error)
	StaleKeys(ctx context.Context, r store.OwnerRange, by store.Staleness, to int, after envelope.StoredKey, limit int) ([]store.RotationKey, error)
	ReplaceWrappings(ctx context.Context, to int, keys []store.Rewrapped) (int64, error)
	CountRowsByKey(ctx context.Context, t store.SealedTable, owners []string) (map[string]int64, error)
	Writers() int
}

// VerificationStore is the database of a Verification.
type VerificationStore interface {
	deployment.MetaReader
	schemaReader
	userCounter
	Fence(context.Context) (int, error)
	CountStaleKeys(ctx context.Context, by store.Staleness, to int) (int64, error)
	CountRowsWithoutKey(ctx context.Context, t store.SealedTable, r store.OwnerRange) (int64, error)
	WrappedValues(ctx context.Context, c store.WrappedColumn, visit func(string) error) error
	AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]store.RotationKey, error)
	SealedRows(ctx context.Context, t store.SealedTable, owner, key, after string, limit int) ([]store.SealedRow, bool, error)
	Flush(context.Context) error
}

// StalenessStore is the database of a Staleness.
type StalenessStore interface {
	staleCounter
	Fence(context.Context) (int, error)
	OldestVersion(context.Context) (int, error)
}

// schemaReader finds the sealed values.
type schemaReader interface {
	SealedColumns(context.Context) ([]store.SealedTable, []store.WrappedColumn, error)
}

// staleCounter counts what is stale.
type staleCounter interface {
	schemaReader
	StaleOwners(ctx context.Context, r store.OwnerRange, by store.Staleness, to int, after string, limit int) ([]string, error)
	CountStaleRows(ctx context.Context, t store.SealedTable, owners []string, by store.Staleness, to int) (map[int]int64, error)
}

// userCounter counts the users that the work yields to.
type userCounter interface {
	UsersAtWork(ctx context.Context, recently time.Duration) (int, error)
}
