package store

import (
	"context"
	"database/sql"
)

// CheckRestore implements Restoration.
func (s *sqliteStore) CheckRestore(ctx context.Context, belongsTo string, existing Existing) error {
	return s.checkRestore(ctx, belongsTo, existing)
}

// StartRestore implements Restoration. SQLite knows no sessions, so it does not notice a pod that
// has the file open.
func (s *sqliteStore) StartRestore(ctx context.Context, run string, m Meta, existing Existing) error {
	return s.startRestore(ctx, run, m, existing, func(queryer) error { return nil }, func(tx queryer, tables []string) error {
		for _, name := range tables {
			if _, err := s.execIn(ctx, tx, "DELETE FROM "+name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Load implements Restoration.
func (s *sqliteStore) Load(ctx context.Context, run string, t Table, rows [][]any) error {
	if _, err := s.loadedTypes(ctx, t); err != nil {
		return err
	}
	if err := t.checkRows(rows); err != nil || len(rows) == 0 {
		return err
	}
	query := s.dialect.rebind("INSERT INTO " + t.Name + " (" + t.columnList() + ") VALUES (" + placeholders(1, len(t.Columns)) + ")")
	return s.load(ctx, t, rows, func() error {
		tx, err := s.db.BeginTx(ctx, nil)
		if err != nil {
			return s.dialect.classify(err)
		}
		return s.commitIn(tx, func(q queryer) error {
			if err := s.checkRun(ctx, q, run, ""); err != nil {
				return err
			}
			return s.insertAll(ctx, tx, query, rows)
		})
	})
}

// insertAll runs the statement for each row.
func (s *sqliteStore) insertAll(ctx context.Context, tx *sql.Tx, query string, rows [][]any) error {
	insert, err := tx.PrepareContext(ctx, query)
	if err != nil {
		return s.dialect.classify(err)
	}
	defer insert.Close()
	for _, row := range rows {
		if _, err := insert.ExecContext(ctx, row...); err != nil {
			if isDuplicate(err) {
				return errDuplicate
			}
			return s.dialect.classify(err)
		}
	}
	return nil
}

// FinishRestore implements Restoration. The transaction is the only writer and needs no lock.
func (s *sqliteStore) FinishRestore(ctx context.Context, run string, m Meta, fence int, want map[string]int64) error {
	return s.finishRestore(ctx, run, m, fence, want, func(queryer, []string) error { return nil })
}
