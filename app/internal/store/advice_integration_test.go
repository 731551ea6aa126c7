//go:build integration

package store_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// TestServerErrorsSayWhatToDo provokes errors of PostgreSQL and PgBouncer. Each error must say why,
// and what to do next.
func TestServerErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	notes := server.CreateDatabase(t, "notes")
	server.Execute(t,
		"CREATE ROLE app LOGIN PASSWORD 'test-only'", "CREATE ROLE barred NOLOGIN PASSWORD 'test-only'",
		"CREATE ROLE busy LOGIN PASSWORD 'test-only' CONNECTION LIMIT 0", "CREATE DATABASE small CONNECTION LIMIT 0",
		"CREATE DATABASE closed", "REVOKE CONNECT ON DATABASE closed FROM PUBLIC")
	transaction := testenv.StartPgBouncer(t, server, "transaction", 4)
	statement := testenv.StartPgBouncer(t, server, "statement", 4)
	as := func(user, password, database string) string {
		return "postgres://" + url.UserPassword(user, password).String() + "@" + server.Host() + "/" + database
	}
	migrate := func(uri, caFile string) error {
		db, err := open(t, uri, caFile, store.RoleJob)
		if err == nil {
			_, err = db.Migrate(ctx)
		}
		return err
	}
	for name, tc := range map[string]struct {
		uri, caFile string
		kind        error
		cause, next string
	}{
		"startup parameter": {uri: transaction.URI("notes") + "&search_path=notes", caFile: transaction.CAFile, kind: store.ErrRefused, cause: "unsupported startup parameter: search_path (SQLSTATE 08P01)", next: "take search_path out of the connection URI, or list it in PgBouncer's ignore_startup_parameters"},
		"statement pooling": {uri: statement.URI("notes"), caFile: statement.CAFile, kind: store.ErrRefused, cause: "SQLSTATE 08P01", next: "pool_mode"},
		"unknown user":      {uri: strings.Replace(transaction.URI("notes"), "//postgres:", "//nobody:", 1), caFile: transaction.CAFile, kind: store.ErrAuthentication, cause: "SASL authentication failed (SQLSTATE 08P01)", next: "auth_query"},
		"wrong password":    {uri: as("app", "wrong", "notes"), caFile: server.CAFile, kind: store.ErrAuthentication, cause: `password authentication failed for user "app" (SQLSTATE 28P01)`, next: "check the user and the password"},
		"no login":          {uri: as("barred", "test-only", "notes"), caFile: server.CAFile, kind: store.ErrAuthentication, cause: "not permitted to log in (SQLSTATE 28000)", next: "run ALTER ROLE USER LOGIN"},
		"no database":       {uri: as("app", "test-only", "nothing"), caFile: server.CAFile, kind: store.ErrRefused, cause: `database "nothing" does not exist (SQLSTATE 3D000)`, next: "create the database"},
		"database closed":   {uri: as("app", "test-only", "closed"), caFile: server.CAFile, kind: store.ErrPermission, cause: `permission denied for database "closed" (SQLSTATE 42501)`, next: `run GRANT CONNECT ON DATABASE "closed" TO USER`},
		"schema closed":     {uri: as("app", "test-only", "notes"), caFile: server.CAFile, kind: store.ErrPermission, cause: "permission denied for schema public (SQLSTATE 42501)", next: "run GRANT USAGE, CREATE ON SCHEMA public TO USER"},
		"role is busy":      {uri: as("busy", "test-only", "notes"), caFile: server.CAFile, kind: store.ErrRefused, cause: `too many connections for role "busy" (SQLSTATE 53300)`, next: `run ALTER ROLE "busy" CONNECTION LIMIT`},
		"database is busy":  {uri: as("app", "test-only", "small"), caFile: server.CAFile, kind: store.ErrRefused, cause: `too many connections for database "small" (SQLSTATE 53300)`, next: `run ALTER DATABASE "small" CONNECTION LIMIT`},
	} {
		t.Run(name, func(t *testing.T) {
			err := migrate(tc.uri, tc.caFile)
			if !errors.Is(err, tc.kind) || !strings.Contains(err.Error(), tc.cause) || !strings.Contains(err.Error(), tc.next) {
				t.Errorf("%v\nwant %v with %q and %q", err, tc.kind, tc.cause, tc.next)
			}
			if err != nil && strings.Contains(err.Error(), "test-only") {
				t.Errorf("the error has the password: %v", err)
			}
		})
	}
	t.Run("the grant mends it", func(t *testing.T) {
		admin := connect(t, notes)
		execute(t, admin, "GRANT USAGE, CREATE ON SCHEMA public TO app")
		if err := migrate(as("app", "test-only", "notes"), server.CAFile); err != nil {
			t.Error(err)
		}
	})
}
