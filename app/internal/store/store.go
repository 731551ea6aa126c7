// Package store keeps the notes service's data, in PostgreSQL or in SQLite, behind one type: the
// same statements, the same guarantees. It is the only package that knows SQL.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Errors that callers tell apart with errors.Is, besides those of the domain packages.
var (
	// ErrUnavailable means that the database cannot be asked now; trying again later may help.
	ErrUnavailable = errors.New("the database is unavailable")
	// ErrRefused is ErrUnavailable where the server, or a pooler before it, answers and says why not.
	ErrRefused = fmt.Errorf("%w: it answers, but refuses the service", ErrUnavailable)
	// ErrPermission means that the database user lacks a right.
	ErrPermission = errors.New("the database user lacks a right")
	// ErrAuthentication means that the database refuses the user or the password.
	ErrAuthentication = errors.New("the database refuses the login")
	// ErrSecretMissing means that the file with the connection URI is not there.
	ErrSecretMissing = errors.New("the database URI is missing")
	// ErrInvalidURI means that the connection URI cannot be used.
	ErrInvalidURI = errors.New("the database URI is not valid")
	// ErrSchema means that the schema is not the one that this program needs.
	ErrSchema = errors.New("the database schema does not fit this program")
)

// errNoTable is the ErrSchema of a table that does not exist.
var errNoTable = fmt.Errorf("%w: a table is missing", ErrSchema)

// errRetry marks errors after which the whole transaction can be tried again.
var errRetry = errors.New("the transaction must be tried again")

// maxAttempts bounds how often a transaction is tried again.
const maxAttempts = 8

// Store is a database. It is safe for concurrent use.
type Store struct {
	db      *sql.DB
	dialect dialect
	// borrowed says that db is another Store's.
	borrowed bool
	creates  *batch.Group[creation, struct{}]
	reads    *batch.Group[reading, readNote]
}

// newStore is the store over an open database.
func newStore(db *sql.DB, d dialect) *Store {
	s := &Store{db: db, dialect: d}
	s.creates = batch.New(createBatches, creation.size, s.createNotes)
	s.reads = batch.New(readBatches, nil, s.readNotes)
	return s
}

// dialect is what differs between the databases.
type dialect interface {
	// rebind turns $1 into the database's own placeholder.
	rebind(query string) string
	// classify turns the driver's errors into this package's, the domain's, or errRetry.
	classify(err error) error
	// insertUser stores a user and the first owner key, which is wrapped under the version, or nothing.
	insertUser(ctx context.Context, s *Store, user accounts.User, key envelope.StoredKey, version int) error
	// insertNotes stores notes in one transaction of its own and returns the ids of those whose session lives
	// and whose key is active. On an error none is known to be stored. It does not wait long for a lock.
	insertNotes(ctx context.Context, s *Store, list []creation) (stored map[string]bool, err error)
	// selectNotes reads many notes; the results are in the order of list, also beside an error, which is of
	// all of them.
	selectNotes(ctx context.Context, s *Store, list []reading) ([]batch.Result[readNote], error)
	// queueForFence keeps those who come later and read the fence behind the transaction that raises it.
	queueForFence(ctx context.Context, s *Store, tx queryer) error
	// replaceSealed is ReplaceSealed, but for an account that was deleted.
	replaceSealed(ctx context.Context, s *Store, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error)
	// replaceActiveKeys is ReplaceActiveKeys; each key is wrapped under the version of the same place.
	replaceActiveKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey, versions []int, now time.Time) error
	// replaceWrappings is ReplaceWrappings; each new wrapping is under the version of the same place.
	replaceWrappings(ctx context.Context, s *Store, to int, keys []Rewrapped, versions []int) (int64, error)
	// deleteRetiredKeys is DeleteRetiredKeys. Error: errStillNeeded.
	deleteRetiredKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey) error
	// usersAtWork is UsersAtWork.
	usersAtWork(ctx context.Context, s *Store, recently time.Duration) (int, error)
	// ping shows that the database answers.
	ping(ctx context.Context, s *Store) error
	// oneOf is a condition that the column has one of the values, and the parameter $1 of the query.
	oneOf(column string, values []string) (condition string, parameter any)
	// lockShared is appended to a SELECT whose rows must not change until the transaction ends.
	lockShared() string
	// lockExclusive is appended to a SELECT whose rows no other transaction may lock.
	lockExclusive() string
	// writers is how many transactions can write at the same time.
	writers(s *Store) int
	// columnTypes lists table, column and declared type of every column of the schema.
	columnTypes() string
	// background is Background.
	background(s *Store) *Store
	// close closes what the dialect has opened besides the database.
	close() error
	// migrations is the directory of the dialect's migrations.
	migrations() string
}

// How long one statement may take on PostgreSQL: a user's request is not worth a minute, a migration
// or a rotation that walks a large table is worth hours.
const (
	RequestTimeout = 30 * time.Second
	JobTimeout     = 6 * time.Hour
)

// Logins gives who to log in to PostgreSQL as, where that changes with time.
type Logins interface {
	// Current is the user and the password of now. It may take its time.
	Current(ctx context.Context) (user, password string, err error)
	// Replaced says whether another user is to be logged in as now. It is asked for each request, and does not wait.
	Replaced(ctx context.Context, user string) bool
	// Refused is told that the server refuses the user.
	Refused(user string)
}

// Open connects to the database that the configuration names, as whom logins says: nil with SQLite, and where the URI
// says so. A statement may take statementTimeout. It answers within 10 s.
func Open(ctx context.Context, c config.Database, logins Logins, statementTimeout time.Duration) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if c.Postgres != nil {
		return openPostgres(ctx, *c.Postgres, logins, statementTimeout)
	}
	return openSQLite(ctx, *c.SQLite)
}

// backgrounds is for how many calls of Background, each of one connection, a process leaves room.
const backgrounds = 2

// Background is the same database over one connection of its own, for what the API does for itself: a Job must not take
// it for users. It is to be closed, before s.
func (s *Store) Background() *Store { return s.dialect.background(s) }

// Close closes all connections but those of Background.
func (s *Store) Close() error {
	if s.borrowed {
		return nil
	}
	return errors.Join(s.dialect.close(), s.db.Close())
}

// Ping shows that the database answers, and that a PostgreSQL server takes writes: after a failover the old
// one may still answer, with what was true before. A SQLite file on a full disk is still read.
func (s *Store) Ping(ctx context.Context) error { return s.dialect.ping(ctx, s) }

// queryer is a database or a transaction.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec runs one statement as a transaction of its own and returns how many rows it changed.
func (s *Store) exec(ctx context.Context, query string, args ...any) (int64, error) {
	var changed int64
	err := s.again(ctx, func() (err error) {
		changed, err = s.execIn(ctx, s.db, query, args...)
		return err
	})
	return changed, err
}

func (s *Store) execIn(ctx context.Context, q queryer, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, s.dialect.rebind(query), args...)
	if err != nil {
		return 0, s.dialect.classify(err)
	}
	return result.RowsAffected()
}

// row reads one row; sql.ErrNoRows stays as it is.
func (s *Store) row(ctx context.Context, query string, args []any, into ...any) error {
	return s.rowIn(ctx, s.db, query, args, into...)
}

func (s *Store) rowIn(ctx context.Context, q queryer, query string, args []any, into ...any) error {
	err := q.QueryRowContext(ctx, s.dialect.rebind(query), args...).Scan(into...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return s.dialect.classify(err)
	}
	return err
}

// rows calls scan for each row.
func (s *Store) rows(ctx context.Context, q queryer, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, s.dialect.rebind(query), args...)
	if err != nil {
		return s.dialect.classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return s.dialect.classify(err)
		}
	}
	if err := rows.Err(); err != nil {
		return s.dialect.classify(err)
	}
	return nil
}

// transact runs do in a transaction and commits it, again as a whole where that can help.
func (s *Store) transact(ctx context.Context, do func(queryer) error) error {
	return s.again(ctx, func() error { return s.once(ctx, do) })
}

// again repeats what a deadlock, a serialization failure or a lock that was not to be had has undone:
// these leave nothing behind.
func (s *Store) again(ctx context.Context, do func() error) error {
	var err error
	for attempt := range maxAttempts {
		if err = do(); !errors.Is(err, errRetry) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(1<<attempt) * 5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%w: gave up after %d attempts: %w", ErrUnavailable, maxAttempts, err)
}

func (s *Store) once(ctx context.Context, do func(queryer) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.dialect.classify(err)
	}
	defer tx.Rollback() // after a commit it does nothing
	if err := do(tx); err != nil {
		return err
	}
	return s.dialect.classify(tx.Commit())
}

// nullable stores an empty text as NULL.
func nullable(text string) sql.NullString { return sql.NullString{String: text, Valid: text != ""} }

// micros is how times are stored.
func micros(t time.Time) int64 { return t.UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
