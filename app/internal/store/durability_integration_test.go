//go:build integration

package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestCommitsAreAwaited: whatever the database's default is.
func TestCommitsAreAwaited(t *testing.T) {
	server := testenv.StartPostgres(t)
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(server.CreateDatabase(t, "notes")), 0o600); err != nil {
		t.Fatal(err)
	}
	for set, want := range map[string]string{"off": "on", "on": "on", "remote_apply": "remote_apply"} {
		t.Run(set, func(t *testing.T) {
			server.Execute(t, "ALTER DATABASE notes SET synchronous_commit = "+set)
			db, err := store.Open(t.Context(), config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8}}, nil, store.RequestTimeout)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if got, err := db.Setting(t.Context(), "synchronous_commit"); err != nil || got != want {
				t.Errorf("synchronous_commit is %q, %v; want %q", got, err, want)
			}
		})
	}
}
