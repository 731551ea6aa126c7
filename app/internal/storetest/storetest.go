// Package storetest opens migrated, empty databases for tests, of every kind that the service
// supports: the same test runs on each.
package storetest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
)

// Open returns another connection pool to the same database, as another process would have.
type Open func(t testing.TB) *store.Store

// SQLite is an empty SQLite database under every build tag, for tests that no server is fast enough for.
func SQLite(t testing.TB) Open {
	t.Helper()
	return SQLiteAt(t, filepath.Join(t.TempDir(), "notes.db"))
}

// SQLiteAt is SQLite in the file given.
func SQLiteAt(t testing.TB, path string) Open {
	t.Helper()
	return migrated(t, opener(config.Database{SQLite: &config.SQLite{Path: path}}))
}

func opener(c config.Database) Open {
	return func(t testing.TB) *store.Store {
		t.Helper()
		db, err := store.Open(context.Background(), c, nil, store.RequestTimeout)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
}

func migrated(t testing.TB, open Open) Open {
	t.Helper()
	if _, err := open(t).Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return open
}
