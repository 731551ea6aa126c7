package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

const (
	// waitersInterval is how often a snapshot looks for sessions that wait for it. It is shorter
	// than migrationLockTimeout, so that it sees a migration that waits.
	waitersInterval = 200 * time.Millisecond
	// snapshotIdle is how long the reader of a snapshot may take for one page. It is longer than an
	// upload may stall.
	snapshotIdle = 3 * time.Minute
)

// Snapshot implements Backups. Its transaction holds the weakest lock on every table, as a backup
// by pg_dump does: it conflicts only with a change of the schema. A goroutine ends the transaction
// when another session waits for it, because users would queue behind that session.
func (s *postgresStore) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := s.CheckSchema(ctx); err != nil {
		return nil, err
	}
	life, stop := context.WithCancelCause(ctx)
	tx, err := s.db.BeginTx(life, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
	if err != nil {
		stop(nil)
		return nil, s.dialect.classify(err)
	}
	var watch sync.WaitGroup
	opened := &snapshot{
		core: &s.core, tx: tx,
		ended: func() error {
			if cause := context.Cause(life); errors.Is(cause, ErrWaiters) {
				return cause
			}
			return nil
		},
		end: func() error {
			err := tx.Rollback()
			stop(nil)
			watch.Wait()
			return err
		},
	}
	pid, err := s.lockTables(ctx, tx)
	if err == nil {
		watch.Go(func() { s.endForWaiters(life, pid, stop) })
		err = opened.inspect(ctx)
	}
	if err != nil {
		err = opened.because(err)
		_ = opened.Close()
		return nil, err
	}
	return opened, nil
}

// lockTables locks the tables in the snapshot's transaction and returns the server process of the
// transaction. LOCK takes no snapshot, so the snapshot begins with the statement after it:
// otherwise a table that a migration rewrites in between would look empty.
func (s *postgresStore) lockTables(ctx context.Context, tx *sql.Tx) (pid int, err error) {
	names := archivedNames()
	for _, t := range neverArchived {
		names = append(names, t.name)
	}
	_, err = tx.ExecContext(ctx, fmt.Sprintf("SET LOCAL idle_in_transaction_session_timeout = %d; LOCK TABLE %s IN ACCESS SHARE MODE",
		snapshotIdle.Milliseconds(), strings.Join(names, ", ")))
	if err = s.dialect.classify(err); errors.Is(err, errLocked) {
		return 0, fmt.Errorf("%w: another session has locked a table: %w", ErrWaiters, err)
	}
	if err == nil {
		err = s.rowIn(ctx, tx, "SELECT pg_backend_pid()", nil, &pid)
	}
	return pid, err
}

// endForWaiters ends the transaction of a server process once another session waits for its locks,
// or, as CREATE INDEX CONCURRENTLY does, for its snapshot.
func (s *postgresStore) endForWaiters(ctx context.Context, pid int, end context.CancelCauseFunc) {
	ticks := time.NewTicker(waitersInterval)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
		// An error is that of a connection. It concerns the snapshot only if the snapshot's own
		// connection has it, too.
		var waits bool
		if err := s.row(ctx, "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND $1 = ANY (pg_blocking_pids(pid)))", []any{pid}, &waits); err == nil && waits {
			end(ErrWaiters)
			return
		}
	}
}

// byteOrder implements dialect. Only texts have a collation. An index with the database's collation
// cannot order by another one, so the columns of other types keep their order from the index.
func (postgresDialect) byteOrder(column, declared string) string {
	if declared == "text" || declared == wrappedType {
		return column + ` COLLATE "C"`
	}
	return column
}
