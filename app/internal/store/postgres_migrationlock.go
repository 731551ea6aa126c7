package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// How long a process waits while another one migrates, and how often it tries.
const (
	migrationWait  = 5 * time.Minute
	migrationRetry = 500 * time.Millisecond
)

// How long a migration waits for a lock, and the longest pause before it tries again. Users queue
// behind the migration while it waits, and none does while it pauses.
const (
	migrationLockTimeout = 500 * time.Millisecond
	migrationPause       = 4 * time.Second
)

// Migrate implements Administration.
func (s *postgresStore) Migrate(ctx context.Context) (int, error) {
	db := s.open(1, RoleJob, migrationLockTimeout)
	defer db.Close()
	provider, err := s.migrations(db)
	if err != nil {
		return 0, err
	}
	release, err := s.lockMigrations(ctx)
	if err != nil {
		return 0, fmt.Errorf("migrate: %w", err)
	}
	defer release()
	return s.migrateBesideUsers(ctx, provider)
}

// migrateBesideUsers applies the pending migrations, and tries again while other sessions keep the
// locks that they need. A migration without a transaction begins again, too.
func (s *postgresStore) migrateBesideUsers(ctx context.Context, provider *goose.Provider) (applied int, err error) {
	end, pause := time.Now().Add(migrationWait), migrationRetry
	for {
		n, err := s.migrate(ctx, provider)
		applied += n
		if !errors.Is(err, errLocked) {
			return applied, err
		}
		if time.Now().After(end) {
			return applied, fmt.Errorf("%w: other sessions have kept the locks that the migration needs for %s: end their transactions, and run `securenotes migrate` again: %w", ErrUnavailable, migrationWait, err)
		}
		select {
		case <-ctx.Done():
			return applied, s.dialect.classify(ctx.Err())
		case <-time.After(pause):
		}
		pause = min(2*pause, migrationPause)
	}
}

// lockMigrations keeps other processes from migrating until release is called. A transaction holds
// the lock, because behind a pooler each transaction may run in another session. The lock's id is
// goose's: previous releases take the same lock for their session.
func (s *postgresStore) lockMigrations(ctx context.Context) (release func(), err error) {
	for end := time.Now().Add(migrationWait); ; {
		tx, err := s.tryMigrationLock(ctx)
		if err != nil {
			return nil, s.dialect.classify(err)
		}
		if tx != nil {
			return func() { _ = tx.Rollback() }, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w: another process has been migrating it for %s", ErrUnavailable, migrationWait)
		}
		select {
		case <-ctx.Done():
			return nil, s.dialect.classify(ctx.Err())
		case <-time.After(migrationRetry):
		}
	}
}

// tryMigrationLock returns a transaction that holds the lock, or nil. It does not wait for the
// lock: a waiting transaction holds a snapshot, which would block CREATE INDEX CONCURRENTLY.
func (s *postgresStore) tryMigrationLock(ctx context.Context) (tx *sql.Tx, err error) {
	tx, err = s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	locked := false
	err = tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", lock.DefaultLockID).Scan(&locked)
	if err == nil && locked {
		// The transaction is idle while the migrations run. A statement without parameters also
		// releases the snapshot of the previous statement.
		_, err = tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	}
	if err != nil || !locked {
		_ = tx.Rollback()
		return nil, err
	}
	return tx, nil
}
