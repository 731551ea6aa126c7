//go:build integration

package storetest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// Each runs the test on an empty database of a real PostgreSQL server. Without the build tag
// integration it runs it on SQLite.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("PostgreSQL", func(t *testing.T) {
		server := testenv.StartPostgres(t)
		test(t, Postgres(t, server, server.CreateDatabase(t, "notes")))
	})
}

// Postgres is the server's database at the URI.
func Postgres(t testing.TB, server *testenv.Postgres, uri string) Open {
	t.Helper()
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	return migrated(t, opener(config.Database{
		Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 16},
	}))
}
