// Package storetest opens migrated, empty databases for tests, of every kind that the service
// supports: the same test runs on each.
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
)

// Open returns another connection pool to the same database, as another process would have.
type Open func(t testing.TB) store.Store

// SQLite is an empty SQLite database under every build tag, for tests that no server is fast enough for.
func SQLite(t testing.TB) Open {
	t.Helper()
	return SQLiteAt(t, filepath.Join(t.TempDir(), "notes.db"))
}

// SQLiteAt is SQLite in the file given, which need not exist.
func SQLiteAt(t testing.TB, path string) Open {
	t.Helper()
	open := opener(config.Database{SQLite: &config.SQLite{Path: path}})
	if _, err := os.Stat(path); err == nil {
		return migrated(t, open)
	}
	if err := os.WriteFile(path, migratedSQLite(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return open
}

var migratedFile struct {
	sync.Mutex
	content []byte
}

// migratedSQLite is the file of a migrated, empty database. To migrate takes longer than most
// tests, so it is done once.
func migratedSQLite(t testing.TB) []byte {
	t.Helper()
	migratedFile.Lock()
	defer migratedFile.Unlock()
	if migratedFile.content != nil {
		return migratedFile.content
	}
	path := filepath.Join(t.TempDir(), "migrated.db")
	db := opener(config.Database{SQLite: &config.SQLite{Path: path}})(t)
	if _, err := db.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	// The last connection to close writes the log into the file.
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	migratedFile.content = content
	return content
}

func opener(c config.Database) Open {
	return func(t testing.TB) store.Store {
		t.Helper()
		db, err := store.Open(context.Background(), c, nil, store.RoleAPI)
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
