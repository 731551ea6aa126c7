package store

import (
	"context"
	"database/sql"
)

// Snapshot implements Backups. Writers do not wait for it, but the write-ahead log grows meanwhile.
func (s *sqliteStore) Snapshot(ctx context.Context) (Snapshot, error) {
	if err := s.CheckSchema(ctx); err != nil {
		return nil, err
	}
	// A read-only transaction is deferred: it does not take the writer's lock. It reads the state
	// at its first statement.
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, s.dialect.classify(err)
	}
	opened := &snapshot{core: &s.core, tx: tx, ended: func() error { return nil }, end: tx.Rollback}
	if err := opened.inspect(ctx); err != nil {
		_ = opened.Close()
		return nil, err
	}
	return opened, nil
}

// byteOrder implements dialect: SQLite's default collation compares bytes.
func (*sqliteDialect) byteOrder(column, _ string) string { return column }
