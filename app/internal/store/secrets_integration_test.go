//go:build integration

package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestChangedSecretsAreRead checks that new connections use a new password and a new CA without a
// restart.
func TestChangedSecretsAreRead(t *testing.T) {
	server := testenv.StartPostgres(t)
	uri, err := url.Parse(server.CreateDatabase(t, "notes"))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := pgx.Connect(t.Context(), uri.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	execute(t, admin, "CREATE ROLE app LOGIN PASSWORD 'first'")
	dir := t.TempDir()
	uriFile, caFile := filepath.Join(dir, "uri"), filepath.Join(dir, "ca.crt")
	write := func(file string, text []byte) {
		t.Helper()
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	password := func(p string) {
		t.Helper()
		uri.User = url.UserPassword("app", p)
		write(uriFile, []byte(uri.String()))
	}
	ca := func(file string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(caFile, text)
	}
	password("first")
	ca(server.CAFile)
	db, err := store.Open(t.Context(), config.Database{Postgres: &config.Postgres{URIFile: uriFile, CAFile: caFile, MaxConnections: 8}}, nil, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	disconnect := func() {
		t.Helper()
		execute(t, admin, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'app'")
	}

	execute(t, admin, "ALTER ROLE app PASSWORD 'second'")
	disconnect()
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrAuthentication) {
		t.Errorf("with the old password: %v", err)
	}
	password("second")
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("with the new password: %v", err)
	}

	ca(testenv.NewCertificate(t, t.TempDir()).CertFile)
	disconnect()
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("with another CA: %v", err)
	}
	ca(server.CAFile)
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("with the right CA: %v", err)
	}

	if err := os.Remove(uriFile); err != nil {
		t.Fatal(err)
	}
	disconnect()
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrSecretMissing) {
		t.Errorf("without a URI: %v", err)
	}
	password("second")
	if err := db.Ping(t.Context()); err != nil {
		t.Errorf("with the URI again: %v", err)
	}
}
