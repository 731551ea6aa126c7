// Package store keeps the data of the notes service in PostgreSQL or in SQLite. It is the only
// package that knows SQL.
//
// [Store] is everything that the service asks of its database, and [Open] opens one. Consumers
// declare the part of it that they need. Start reading with core.go: [core] is what the databases
// share, and its methods are the operations whose SQL is the same on both. postgresStore, in the
// files postgres*.go, and sqliteStore, in the files sqlite*.go, embed it and implement the rest.
//
// Every statement on behalf of a session checks in the statement itself that the session is live.
// So a revoked session has no effect once its row is gone, and no request needs a round trip for
// the check. To read a note, or to create one while the caches are warm, is one round trip.
package store

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// Store is a database. It is safe for concurrent use. Its operations return the errors of this
// package and of the domain packages.
type Store interface {
	accounts.Store
	notes.Store
	envelope.KeyRows
	Administration
	Deployment
	Rotation
	Backups
	Restoration
	RowCounts
}

// Administration is what a process does with the database as a whole.
type Administration interface {
	// Migrate brings the schema to this program's version and returns how many migrations it
	// applied. One process migrates at a time. Migrations only go forward, and each leaves the
	// previous release able to work.
	Migrate(context.Context) (int, error)
	// CheckSchema returns ErrSchema unless every migration that this program knows has been
	// applied.
	CheckSchema(context.Context) error
	// Ping returns nil if the database answers and takes writes. After a failover the previous
	// PostgreSQL primary may still answer, with stale data. SQLite on a full disk counts as
	// available. Error: ErrRestored, if the file of SQLite was replaced.
	Ping(context.Context) error
	// Background returns the same database over one connection of its own, for work that the API
	// does for itself: a Job must not mistake it for users. Close it before this Store.
	Background() Store
	// Close closes all connections except those of Background.
	Close() error
	// Limits returns the rate limit counters in this database.
	Limits() *Limits
	// DeleteExpiredSessions removes up to limit sessions that expired before now, and returns how
	// many.
	DeleteExpiredSessions(ctx context.Context, now time.Time, limit int) (int64, error)
	// DeleteExpiredIdempotencyKeys removes up to limit keys that expired before now, and returns
	// how many.
	DeleteExpiredIdempotencyKeys(ctx context.Context, now time.Time, limit int) (int64, error)
}

// Deployment is what ties a database to its deployment.
type Deployment interface {
	// Meta returns which deployment the database belongs to. Error: ErrNoMeta.
	Meta(context.Context) (Meta, error)
	// DeploymentID returns the id of Meta, whatever the version of the schema. Error: ErrNoMeta,
	// also where there is no schema.
	DeploymentID(context.Context) (string, error)
	// Expect makes the writes that need no live session take effect only while deployment and epoch
	// of the database are those of m. CreateUser and CreateSession then return ErrRestored;
	// RehashPassword and SucceedKey change nothing. Call it before the first of these.
	Expect(m Meta)
	// ClaimMeta makes the database the deployment's, unless a deployment has claimed it.
	ClaimMeta(context.Context, Meta) error
	// ClaimPepper records the digest of the pepper in use unless one is recorded, and returns the
	// recorded one. Error: ErrNoMeta.
	ClaimPepper(ctx context.Context, digest string) (recorded string, err error)
	// PeppersInUse returns, by the id of each pepper, how many users' passwords need it.
	PeppersInUse(context.Context) (map[string]int64, error)
}

// Rotation is what a key rotation to a master key version does. The methods that write take that
// version as to, and write nothing unless the fence is exactly at it. Errors: ErrSuperseded,
// ErrFenceTooLow.
type Rotation interface {
	// Fence returns the lowest master key version that an owner key may be wrapped under.
	Fence(context.Context) (int, error)
	// RaiseFence raises the fence to a version. It never lowers it.
	RaiseFence(ctx context.Context, to int) error
	// EndSessions ends every session that began at the given time or before, and returns how many.
	EndSessions(ctx context.Context, to int, began time.Time) (int64, error)
	// ReplaceCanary replaces the canary, if it is still the old one.
	ReplaceCanary(ctx context.Context, to int, old, renewed Meta) error
	// ReplaceActiveKeys makes each key its owner's active key in place of a stale one, which gets
	// the state retiring, all in one transaction. It skips owners without a stale active key, whom
	// another process of the rotation has handled, and deleted accounts. The keys must be sorted by
	// owner, one for each.
	ReplaceActiveKeys(ctx context.Context, to int, keys []envelope.StoredKey, now time.Time) error
	// ReplaceSealed writes rows that were sealed again with the new key, each only if its key and
	// revision are still those that were read: a user's write in between wins. It returns how many
	// rows it wrote.
	ReplaceSealed(ctx context.Context, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error)
	// ReplaceWrappings replaces the wrappings of keys, each only if it is still the one that was
	// read, in one transaction. It returns how many it replaced.
	ReplaceWrappings(ctx context.Context, to int, keys []Rewrapped) (int64, error)
	// DeleteReplacedKeys deletes keys in the state retiring. If something is still sealed with one
	// of them it deletes none and reports false: the foreign key decides, not an earlier count.
	DeleteReplacedKeys(ctx context.Context, to int, keys []envelope.StoredKey) (bool, error)
	// Flush returns once everything that the caller has read is on disk, and on the standby servers
	// that the database waits for.
	Flush(context.Context) error

	// SealedColumns returns every table with sealed values and every column with wrapped keys. It
	// reads the schema, so that a rotation cannot miss a column that a later migration adds. Error:
	// ErrSchema, when a table with sealed values lacks the columns that tell which key they are
	// sealed with.
	SealedColumns(context.Context) ([]SealedTable, []WrappedColumn, error)
	// StaleOwners returns up to limit owners of the range with a stale key, sorted, after the given
	// one.
	StaleOwners(ctx context.Context, r OwnerRange, by Staleness, to int, after string, limit int) ([]string, error)
	// OwnersKeys returns all keys of the owners, sorted, and which of the tables need each.
	OwnersKeys(ctx context.Context, owners []string, tables []SealedTable) ([]RotationKey, error)
	// StaleKeys returns up to limit stale keys of the range, sorted, after the given one. It may
	// split the keys of one owner between two calls.
	StaleKeys(ctx context.Context, r OwnerRange, by Staleness, to int, after envelope.StoredKey, limit int) ([]RotationKey, error)
	// AllKeys returns up to limit owner keys, sorted, after the given one.
	AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]RotationKey, error)
	// SealedRows returns up to limit rows, and about maxBatchBytes, that are sealed with the key,
	// sorted, after the given id. It reports whether there may be more.
	SealedRows(ctx context.Context, t SealedTable, owner, key, after string, limit int) (rows []SealedRow, more bool, err error)
	// WrappedValues calls visit with every value of a wrapped column.
	WrappedValues(ctx context.Context, c WrappedColumn, visit func(string) error) error

	// OldestVersion returns the oldest master key version that an owner key or the canary is
	// wrapped under; 0 in an empty database.
	OldestVersion(context.Context) (int, error)
	// CountStaleKeys counts the stale owner keys.
	CountStaleKeys(ctx context.Context, by Staleness, to int) (int64, error)
	// CountStaleRows counts the rows of a table that are sealed with the owners' stale keys, by the
	// version of the key. A version that only keys without rows have counts 0. The time that it
	// takes depends on how many rows these owners have.
	CountStaleRows(ctx context.Context, t SealedTable, owners []string, by Staleness, to int) (map[int]int64, error)
	// CountRowsByKey counts the owners' sealed rows of a table, by the id of their key.
	CountRowsByKey(ctx context.Context, t SealedTable, owners []string) (map[string]int64, error)
	// CountRowsWithoutKey counts the rows of a table, of the owners in the range, whose key does
	// not exist. A range without a beginning includes the rows without an owner. It is 0 where the
	// table has a foreign key.
	CountRowsWithoutKey(ctx context.Context, t SealedTable, r OwnerRange) (int64, error)

	// Writers returns how many transactions can write at the same time.
	Writers() int
	// UsersAtWork counts the API's sessions that execute a statement for a user now, or did so
	// recently: those that a Job should yield to. It returns errors.ErrUnsupported with SQLite, and
	// where PostgreSQL hides other logins' sessions: it shows them to the login that the sessions
	// have, which is the Job's own, and to members of pg_read_all_stats.
	UsersAtWork(ctx context.Context, recently time.Duration) (int, error)
}

// Role is what a process does with the database. Its value is the application_name of the process's
// connections to PostgreSQL: a Job yields to sessions of RoleAPI only, not to other Jobs, to
// probes, to a vacuum or to a backup.
type Role string

// The roles.
const (
	// RoleAPI serves users. A statement may take requestTimeout.
	RoleAPI Role = "securenotes"
	// RoleJob works through the whole database, as a migration, a rotation and a verification do. A
	// statement may take jobTimeout.
	RoleJob Role = "securenotes-job"

	// roleBackground is the API's work for itself; see [Administration].
	roleBackground Role = "securenotes-background"
)

// How long PostgreSQL lets one statement take. A user's request is not worth a minute. A migration
// or a rotation that walks a large table is worth hours.
const (
	requestTimeout = 30 * time.Second
	jobTimeout     = 6 * time.Hour
)

// statementTimeout returns how long a statement of the role may take.
func (r Role) statementTimeout() time.Duration {
	if r == RoleJob {
		return jobTimeout
	}
	return requestTimeout
}

// Logins provides credentials for PostgreSQL that change over time.
type Logins interface {
	// Current returns the current user and password. It may block.
	Current(ctx context.Context) (user, password string, err error)
	// Replaced reports whether the user's credentials have been replaced. It is called for each
	// request and does not block.
	Replaced(ctx context.Context, user string) bool
	// Refused is called when the server rejects the user's credentials.
	Refused(user string)
}

// openTimeout bounds Open.
const openTimeout = 10 * time.Second

// Open connects to the configured database in a role. logins is nil with SQLite, and where the
// connection URI contains the credentials.
func Open(ctx context.Context, c config.Database, logins Logins, role Role) (Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if c.Postgres != nil {
		return openPostgres(ctx, *c.Postgres, logins, role)
	}
	return openSQLite(ctx, *c.SQLite)
}
