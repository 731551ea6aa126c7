package testenv

import (
	"context"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
)

// databaseMount is where a test's Vault mounts its database engine.
const databaseMount = "database"

// DatabaseRole is a role of the database engine of a test's Vault.
type DatabaseRole struct {
	Credentials config.VaultCredentials
	vault       *Vault
}

// CreateDatabaseRole creates the database "notes" on the server, and configures Vault to create
// logins to it as config/samples/database-credentials does. Each login lasts for the lease.
func (v *Vault) CreateDatabaseRole(t testing.TB, p *Postgres, role string, lease time.Duration) *DatabaseRole {
	t.Helper()
	uri, err := url.Parse(p.CreateDatabase(t, "notes"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(context.Background(), uri.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sample(t, "roles.sql")); err != nil {
		t.Fatal(err)
	}
	client := v.Client(t)
	if err := client.Sys().Mount(databaseMount, &api.MountInput{Type: "database"}); err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(p.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, data map[string]any) {
		t.Helper()
		if _, err := client.Logical().Write(databaseMount+"/"+path, data); err != nil {
			t.Fatal(err)
		}
	}
	write("config/notes", map[string]any{
		"plugin_name": "postgresql-database-plugin", "allowed_roles": role, "username": "vault", "password": "replace-me",
		"connection_url": "postgres://{{username}}:{{password}}@" + uri.Host + "/postgres?sslmode=verify-full", "tls_ca": string(authority),
		"password_authentication": "scram-sha-256",
	})
	write("rotate-root/notes", nil)
	write("roles/"+role, map[string]any{
		"db_name": "notes", "default_ttl": lease.String(), "max_ttl": lease.String(),
		"creation_statements": sample(t, "creation.sql"), "revocation_statements": sample(t, "revocation.sql"),
	})
	return &DatabaseRole{vault: v, Credentials: config.VaultCredentials{Mount: databaseMount, Role: role}}
}

// Revoke drops every login that Vault has created, as the operator does after a compromise.
func (r *DatabaseRole) Revoke(t testing.TB) error {
	t.Helper()
	_, err := r.vault.Client(t).Logical().Write("sys/leases/revoke-prefix/"+databaseMount+"/creds/"+r.Credentials.Role, map[string]any{"sync": true})
	return err
}

// sample reads one of the files that docs/database-credentials.md explains.
func sample(t testing.TB, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(repository(t), "config", "samples", "database-credentials", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// repository returns the root directory of this repository: the first one above the test's working
// directory that has a go.mod. Paths of source files do not help, because of -trimpath.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			t.Fatal("no go.mod above the working directory: run the test with go test, in a checkout")
		}
		dir = filepath.Dir(dir)
	}
}
