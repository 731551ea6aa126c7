//go:build integration

package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestRestoredPostgres is [endsWhenRestored] on PostgreSQL.
func TestRestoredPostgres(t *testing.T) {
	server := testenv.StartPostgres(t)
	dir := t.TempDir()
	uri, uriFile := server.CreateDatabase(t, "notes"), filepath.Join(dir, "uri")
	if err := os.WriteFile(uriFile, []byte(uri), 0o600); err != nil {
		t.Fatal(err)
	}
	database := config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 16}}
	endsWhenRestored(t, dir, database, func(statements ...string) {
		t.Helper()
		conn, err := pgx.Connect(t.Context(), uri)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		for _, statement := range statements {
			if _, err := conn.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	})
}
