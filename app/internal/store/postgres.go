package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pressly/goose/v3"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/batch"
)

// postgresStore is a PostgreSQL database, reached directly or through a pooler.
type postgresStore struct {
	core
	// createPool has the connections for joined creations of notes.
	createPool *sql.DB
	// open opens another pool of the same database.
	open openPool
}

// openPool opens a pool of up to size connections. A statement waits for a lock as long as
// lockTimeout.
type openPool func(size int, role Role, lockTimeout time.Duration) *sql.DB

var _ Store = (*postgresStore)(nil)

const (
	// maxBackgrounds is how many calls of Background, each with one connection, a process makes.
	maxBackgrounds = 2
	// lockTimeout is how long a statement waits for a lock. Many requests wait for each transaction
	// of joined creations, so such a transaction gives up sooner, and its notes are created singly.
	lockTimeout, createLockTimeout = 5 * time.Second, 100 * time.Millisecond
)

// openPostgres connects to the database and checks that it answers.
func openPostgres(ctx context.Context, c config.Postgres, logins Logins, role Role) (Store, error) {
	settings, err := postgresSettings(c)
	if err != nil {
		return nil, err
	}
	pool := func(size int, role Role, lockTimeout time.Duration) *sql.DB {
		return postgresPool(postgresConnector{
			logins: logins, session: sessionSettings{statementTimeout: role.statementTimeout(), lockTimeout: lockTimeout},
			settings: func() (*pgx.ConnConfig, error) {
				settings, err := postgresSettings(c)
				if err == nil {
					settings.RuntimeParams["application_name"] = string(role)
				}
				return settings, err
			},
		}, size)
	}
	s := newPostgresStore(
		pool(c.MaxConnections-createBatches.Parallel-maxBackgrounds, role, lockTimeout),
		pool(createBatches.Parallel, role, createLockTimeout),
		pool,
	)
	if err := s.Ping(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("PostgreSQL at %s:%d, database %q: %w", settings.Host, settings.Port, settings.Database, err)
	}
	return s, nil
}

// newPostgresStore returns the store over two pools of the same database.
func newPostgresStore(db, createPool *sql.DB, open openPool) *postgresStore {
	s := &postgresStore{core: core{db: db, dialect: postgresDialect{}}, createPool: createPool, open: open}
	s.creates = batch.New(createBatches, creation.size, s.createNotes)
	s.reads = batch.New(readBatches, nil, s.readNotes)
	return s
}

// postgresPool returns a pool of up to size connections to servers that take writes.
func postgresPool(connector postgresConnector, size int) *sql.DB {
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db
}

// Background implements Administration.
func (s *postgresStore) Background() Store {
	db := s.open(1, roleBackground, lockTimeout)
	return newPostgresStore(db, db, s.open)
}

// Close implements Administration.
func (s *postgresStore) Close() error { return errors.Join(s.createPool.Close(), s.db.Close()) }

// Ping implements Administration.
func (s *postgresStore) Ping(ctx context.Context) error {
	var readOnly string
	err := s.row(ctx, "SELECT current_setting('transaction_read_only')", nil, &readOnly)
	if err == nil && readOnly != "off" {
		err = fmt.Errorf("%w: it is read-only", ErrUnavailable)
	}
	return err
}

// Writers implements Rotation.
func (s *postgresStore) Writers() int { return s.db.Stats().MaxOpenConnections }

// UsersAtWork implements Rotation.
func (s *postgresStore) UsersAtWork(ctx context.Context, recently time.Duration) (int, error) {
	var users, hidden int
	// A hidden session has no backend_start. A session that is starting has no state yet.
	err := s.row(ctx, `SELECT count(*) FILTER (WHERE state = 'active' OR state_change > clock_timestamp() - $2 * interval '1 microsecond'),
			count(*) FILTER (WHERE backend_start IS NULL OR state = 'disabled')
		FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1`,
		[]any{string(RoleAPI), recently.Microseconds()}, &users, &hidden)
	if err == nil && hidden > 0 {
		err = fmt.Errorf("%w: PostgreSQL hides the sessions of other logins", errors.ErrUnsupported)
	}
	return users, err
}

// postgresDialect is the dialect of PostgreSQL.
type postgresDialect struct{}

func (postgresDialect) rebind(query string) string { return query }
func (postgresDialect) lockShared() string         { return " FOR SHARE" }
func (postgresDialect) lockExclusive() string      { return " FOR UPDATE" }

func (postgresDialect) oneOf(column string, values []string) (condition string, parameter any) {
	return column + " = ANY($1::uuid[])", values
}

func (postgresDialect) columnTypes() string {
	return `SELECT c.table_name, c.column_name, COALESCE(c.domain_name, c.data_type) AS declared
		FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' ORDER BY 1, c.ordinal_position`
}

func (postgresDialect) migrations() (goose.Dialect, string) {
	return goose.DialectPostgres, "migrations/postgres"
}
