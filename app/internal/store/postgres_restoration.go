package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// CheckRestore implements Restoration.
func (s *postgresStore) CheckRestore(ctx context.Context, belongsTo string, existing Existing) error {
	if err := s.checkRestore(ctx, belongsTo, existing); err != nil {
		return err
	}
	return s.mustBeUnused(ctx, s.db)
}

// StartRestore implements Restoration.
func (s *postgresStore) StartRestore(ctx context.Context, run string, m Meta, existing Existing) error {
	return s.startRestore(ctx, run, m, existing, func(tx queryer) error {
		// In the order of Load and FinishRestore, so that none of them deadlocks: meta comes first.
		if _, err := s.execIn(ctx, tx, "LOCK TABLE meta IN EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := s.mustBeUnused(ctx, tx); err != nil {
			return err
		}
		_, err := s.execIn(ctx, tx, "LOCK TABLE "+strings.Join(append(archivedNames(), emptiedNames()...), ", ")+" IN ACCESS EXCLUSIVE MODE")
		return err
	}, func(tx queryer, tables []string) error {
		_, err := s.execIn(ctx, tx, "TRUNCATE "+strings.Join(tables, ", "))
		return err
	})
}

// mustBeUnused returns ErrInUse if pods of the API are connected. A pooler keeps the sessions of
// pods that have ended, so it counts only those that were used within the last minute, as a pod's
// probes use them. PostgreSQL hides that time if the sessions are of another login.
func (s *postgresStore) mustBeUnused(ctx context.Context, tx queryer) error {
	var used int
	err := s.rowIn(ctx, tx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
		AND application_name IN ($1, $2) AND coalesce(state <> 'idle' OR state_change > clock_timestamp() - interval '1 minute', true)`,
		[]any{string(RoleAPI), string(roleBackground)}, &used)
	if err == nil && used > 0 {
		err = fmt.Errorf("%w: pods of the service have %d sessions: scale the Deployment to 0, and repeat the restore a minute after they have ended", ErrInUse, used)
	}
	return err
}

// Load implements Restoration.
func (s *postgresStore) Load(ctx context.Context, run string, t Table, rows [][]any) error {
	types, err := s.loadedTypes(ctx, t)
	if err != nil {
		return err
	}
	if err := t.checkRows(rows); err != nil || len(rows) == 0 {
		return err
	}
	data, err := copyData(t, types, rows)
	if err != nil {
		return err
	}
	return s.load(ctx, t, rows, func() error { return s.copyIn(ctx, run, t, data) })
}

// copyIn inserts the data in one transaction. It does not wait for the disk: FinishRestore does.
func (s *postgresStore) copyIn(ctx context.Context, run string, t Table, data []byte) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return s.dialect.classify(err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return s.dialect.classify(err)
	}
	return s.commitIn(tx, func(q queryer) error {
		if _, err := s.execIn(ctx, q, "SET LOCAL synchronous_commit = off"); err != nil {
			return err
		}
		if err := s.checkRun(ctx, q, run, s.dialect.lockShared()); err != nil {
			return err
		}
		err := conn.Raw(func(driverConn any) error {
			_, err := serverConn(driverConn).CopyFrom(ctx, bytes.NewReader(data), "COPY "+t.Name+" ("+t.columnList()+") FROM STDIN (FORMAT binary)")
			return err
		})
		if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == uniqueViolation {
			return errDuplicate
		}
		return s.dialect.classify(err)
	})
}

// serverConn returns the connection to the server, or to a pooler, under one of database/sql.
func serverConn(driverConn any) *pgconn.PgConn {
	if pooled, ok := driverConn.(*pooledConn); ok {
		driverConn = pooled.conn
	}
	return driverConn.(*stdlib.Conn).Conn().PgConn()
}

// FinishRestore implements Restoration. Its commit waits for the disk and for the standby servers,
// and so for those of Load: the log has one order.
func (s *postgresStore) FinishRestore(ctx context.Context, run string, m Meta, fence int, want map[string]int64) error {
	return s.finishRestore(ctx, run, m, fence, want, func(tx queryer, tables []string) error {
		_, err := s.execIn(ctx, tx, "LOCK TABLE "+strings.Join(tables, ", ")+" IN SHARE ROW EXCLUSIVE MODE")
		return err
	})
}
