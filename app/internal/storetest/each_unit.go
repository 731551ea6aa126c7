//go:build !integration

package storetest

import (
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// Each runs the test on an empty SQLite database. With the build tag integration it runs it on
// PostgreSQL.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, sqlite(t)) })
}

func sqlite(t testing.TB) Open {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notes.db")
	return migrated(t, opener(config.Database{SQLite: &config.SQLite{Path: path}}))
}
