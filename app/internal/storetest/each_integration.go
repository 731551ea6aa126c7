//go:build integration

package storetest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// Main runs the tests of a package and stops the PostgreSQL server that they share. The TestMain of
// each package that uses Each calls it.
func Main(m *testing.M) { testenv.Main(m) }

// Each runs the test twice, each time with an empty database: as the subtest sqlite, and as the
// subtest postgresql on a server that the package's tests share. The two run in parallel once the
// test that calls Each has returned. Without the build tag integration there is only sqlite.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		server, uri := SharedDatabase(t)
		test(t, postgres(t, server, uri))
	})
}

// EachJob is Each for what a Job does: job opens the database as a Job, and api as a pod of the
// API.
func EachJob(t *testing.T, test func(t *testing.T, job, api Open)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		open := SQLite(t)
		test(t, open, open)
	})
	t.Run("postgresql", func(t *testing.T) {
		t.Parallel()
		server, uri := SharedDatabase(t)
		test(t, PostgresJob(t, server, uri), postgres(t, server, uri))
	})
}

// template is the database on the shared server that the others are copied from.
const template = "migrated"

var (
	migrateTemplate sync.Once
	copies          atomic.Int64
)

// SharedDatabase returns the server that the package's tests share, and the URI of a migrated,
// empty database on it. See [testenv.SharedPostgres] for what a test may do with it.
func SharedDatabase(t testing.TB) (server *testenv.Postgres, uri string) {
	t.Helper()
	server = testenv.SharedPostgres(t)
	migrateTemplate.Do(func() {
		db := postgres(t, server, server.CreateDatabase(t, template))(t)
		if _, err := db.Migrate(context.Background()); err != nil {
			t.Fatal(err)
		}
		// Only a database without connections can be copied.
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	})
	return server, server.CopyDatabase(t, template, fmt.Sprintf("notes_%d", copies.Add(1)))
}

// Postgres migrates the server's database at the URI.
func Postgres(t testing.TB, server *testenv.Postgres, uri string) Open {
	t.Helper()
	return migrated(t, postgres(t, server, uri))
}

// PostgresJob opens the server's database at the URI as a Job.
func PostgresJob(t testing.TB, server *testenv.Postgres, uri string) Open {
	t.Helper()
	return opener(configured(t, server, uri), store.RoleJob)
}

func postgres(t testing.TB, server *testenv.Postgres, uri string) Open {
	t.Helper()
	return opener(configured(t, server, uri), store.RoleAPI)
}

func configured(t testing.TB, server *testenv.Postgres, uri string) config.Database {
	t.Helper()
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	return config.Database{
		Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 16},
	}
}
