package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
)

// TestSQLiteFilesAreTheOwnersOnly checks that a database that does not exist is created for its
// owner only, and so are the files beside it.
func TestSQLiteFilesAreTheOwnersOnly(t *testing.T) {
	for _, role := range []store.Role{store.RoleAPI, store.RoleJob} {
		path := filepath.Join(t.TempDir(), "notes.db")
		db, err := store.Open(ctx, config.Database{SQLite: &config.SQLite{Path: path}}, nil, role)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		if _, err := db.Migrate(ctx); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{path, path + "-wal", path + "-shm"} {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if mode := info.Mode().Perm(); mode != 0o600 {
				t.Errorf("%s has mode %o, want 600", file, mode)
			}
		}
	}
}
