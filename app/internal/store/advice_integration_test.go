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

// TestServerErrorsSayWhatToDo provokes what PostgreSQL and PgBouncer refuse. The error says why,
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
		db, err := open(t, uri, caFile, store.JobTimeout)
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
		"startup parameter": {transaction.URI("notes") + "&search_path=notes", transaction.CAFile, store.ErrRefused, "unsupported startup parameter: search_path (SQLSTATE 08P01)", "take search_path out of the connection URI, or list it in PgBouncer's ignore_startup_parameters"},
		"statement pooling": {statement.URI("notes"), statement.CAFile, store.ErrRefused, "SQLSTATE 08P01", "pool_mode"},
		"unknown user":      {strings.Replace(transaction.URI("notes"), "//postgres:", "//nobody:", 1), transaction.CAFile, store.ErrAuthentication, "SASL authentication failed (SQLSTATE 08P01)", "auth_query"},
		"wrong password":    {as("app", "wrong", "notes"), server.CAFile, store.ErrAuthentication, `password authentication failed for user "app" (SQLSTATE 28P01)`, "check the user and the password"},
		"no login":          {as("barred", "test-only", "notes"), server.CAFile, store.ErrAuthentication, "not permitted to log in (SQLSTATE 28000)", "run ALTER ROLE USER LOGIN"},
		"no database":       {as("app", "test-only", "nothing"), server.CAFile, store.ErrRefused, `database "nothing" does not exist (SQLSTATE 3D000)`, "create the database"},
		"database closed":   {as("app", "test-only", "closed"), server.CAFile, store.ErrPermission, `permission denied for database "closed" (SQLSTATE 42501)`, `run GRANT CONNECT ON DATABASE "closed" TO USER`},
		"schema closed":     {as("app", "test-only", "notes"), server.CAFile, store.ErrPermission, "permission denied for schema public (SQLSTATE 42501)", "run GRANT USAGE, CREATE ON SCHEMA public TO USER"},
		"role is busy":      {as("busy", "test-only", "notes"), server.CAFile, store.ErrRefused, `too many connections for role "busy" (SQLSTATE 53300)`, `run ALTER ROLE "busy" CONNECTION LIMIT`},
		"database is busy":  {as("app", "test-only", "small"), server.CAFile, store.ErrRefused, `too many connections for database "small" (SQLSTATE 53300)`, `run ALTER DATABASE "small" CONNECTION LIMIT`},
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
