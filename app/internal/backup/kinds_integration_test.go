//go:build integration

package backup_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/storetest"
	"github.com/securenotes/securenotes/hack/testenv"
)

// kinds returns how to create each kind of database that the build can test.
func kinds() map[string]func(testing.TB) *database {
	return map[string]func(testing.TB) *database{"sqlite": newSQLite, "postgresql": newPostgres}
}

// migrated returns how to create each kind of database with a schema.
func migrated() map[string]func(testing.TB) *database {
	return map[string]func(testing.TB) *database{"sqlite": newMigratedSQLite, "postgresql": newMigratedPostgres}
}

var databases atomic.Int64

func newPostgres(t testing.TB) *database {
	t.Helper()
	server := testenv.SharedPostgres(t)
	return postgres(t, server, server.CreateDatabase(t, fmt.Sprintf("backup_%d", databases.Add(1))))
}

func newMigratedPostgres(t testing.TB) *database {
	t.Helper()
	server, uri := storetest.SharedDatabase(t)
	return postgres(t, server, uri)
}

func postgres(t testing.TB, server *testenv.Postgres, uri string) *database {
	t.Helper()
	file := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(file, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	return &database{
		config: config.Database{Postgres: &config.Postgres{URIFile: file, CAFile: server.CAFile, MaxConnections: 16}},
		driver: "pgx", source: uri,
	}
}
