package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/pressly/goose/v3/lock"
)

// How long a process waits for another one that migrates, and how often it looks.
const (
	migrationWait  = 5 * time.Minute
	migrationRetry = 500 * time.Millisecond
)

// lockMigrations keeps other processes from migrating until release is called. A transaction holds
// the lock, because behind a pooler each transaction may run in another session. The id is goose's:
// previous releases take the same lock for their session.
func (p postgres) lockMigrations(ctx context.Context, s *Store) (release func(), err error) {
	for end := time.Now().Add(migrationWait); ; {
		tx, err := s.tryMigrationLock(ctx)
		if err != nil {
			return nil, p.classify(err)
		}
		if tx != nil {
			return func() { _ = tx.Rollback() }, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("%w: another process has been migrating it for %s", ErrUnavailable, migrationWait)
		}
		select {
		case <-ctx.Done():
			return nil, p.classify(ctx.Err())
		case <-time.After(migrationRetry):
		}
	}
}

// tryMigrationLock returns a transaction that holds the lock, or nil. A transaction that held a
// snapshot, as one does that waits for a lock, would keep CREATE INDEX CONCURRENTLY waiting.
func (s *Store) tryMigrationLock(ctx context.Context) (tx *sql.Tx, err error) {
	tx, err = s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return nil, err
	}
	locked := false
	err = tx.QueryRowContext(ctx, "SELECT pg_try_advisory_xact_lock($1)", lock.DefaultLockID).Scan(&locked)
	if err == nil && locked {
		// The transaction is idle while the migrations run. A statement without parameters also ends
		// the snapshot of the one before.
		_, err = tx.ExecContext(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0")
	}
	if err != nil || !locked {
		_ = tx.Rollback()
		return nil, err
	}
	return tx, nil
}
