// Package storetest opens migrated, empty databases for tests. [Each] runs a test on every kind of
// database that the service supports.
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

// Open opens a connection pool to the database of the test. Each call opens another pool, as
// another process would.
type Open func(t testing.TB) store.Store

// SQLite returns an empty SQLite database under every build tag, for tests that would be too slow
// with a server.
func SQLite(t testing.TB) Open {
	t.Helper()
	return SQLiteAt(t, filepath.Join(t.TempDir(), "notes.db"))
}

// SQLiteAt is SQLite with the given file, which need not exist.
func SQLiteAt(t testing.TB, path string) Open {
	t.Helper()
	open := opener(config.Database{SQLite: &config.SQLite{Path: path}}, store.RoleAPI)
	if _, err := os.Stat(path); err == nil {
		return migrated(t, open)
	}
	if err := os.WriteFile(path, migratedSQLite(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return open
}

// migratedFile is the result of migratedSQLite.
var migratedFile struct {
	sync.Mutex
	content []byte
}

// migratedSQLite returns the content of a migrated, empty database file. A migration takes longer
// than most tests, so it runs once.
func migratedSQLite(t testing.TB) []byte {
	t.Helper()
	migratedFile.Lock()
	defer migratedFile.Unlock()
	if migratedFile.content != nil {
		return migratedFile.content
	}
	path := filepath.Join(t.TempDir(), "migrated.db")
	db := opener(config.Database{SQLite: &config.SQLite{Path: path}}, store.RoleAPI)(t)
	if _, err := db.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	// Closing the last connection writes the write-ahead log into the file.
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

// opener returns how to open the configured database in a role.
func opener(c config.Database, role store.Role) Open {
	return func(t testing.TB) store.Store {
		t.Helper()
		db, err := store.Open(context.Background(), c, nil, role)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
}

// migrated migrates the database.
func migrated(t testing.TB, open Open) Open {
	t.Helper()
	if _, err := open(t).Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return open
}
