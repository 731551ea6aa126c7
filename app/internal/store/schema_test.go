package store

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestBytesAreMarked: a migration that adds a column of bytes must say that it is sealed, or rotations
// would pass it over.
func TestBytesAreMarked(t *testing.T) {
	ctx := context.Background()
	s, err := Open(ctx, config.Database{SQLite: &config.SQLite{Path: filepath.Join(t.TempDir(), "notes.db")}}, nil, RequestTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	columns := 0
	err = s.rows(ctx, s.db, s.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		columns++
		if err := rows.Scan(&table, &column, &kind); err != nil {
			return err
		}
		if kind == "blob" || kind == "bytea" {
			t.Errorf("column %s.%s is %s: mark it as %s", table, column, kind, sealedType)
		}
		return nil
	})
	if err != nil || columns < 20 {
		t.Errorf("%d columns, %v", columns, err)
	}
}
