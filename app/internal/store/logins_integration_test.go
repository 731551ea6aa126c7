//go:build integration

package store_test

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/hack/testenv"
)

// changing provides the credentials that the test sets.
type changing struct {
	mu      sync.Mutex
	user    string
	refused []string
	// next is the user after one that the server has rejected.
	next string
	err  error
}

func (c *changing) Current(context.Context) (user, password string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user, "test-only", c.err
}

func (c *changing) Replaced(_ context.Context, user string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user != "" && c.user != user
}

func (c *changing) Refused(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = append(c.refused, user)
	if c.next != "" {
		c.user = c.next
	}
}

func (c *changing) become(user string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user, c.err = user, err
}

// otherLogins returns a database whose tables belong to the role notes. The users a and b are
// members of that role.
func otherLogins(t *testing.T) (*pgx.Conn, config.Database) {
	t.Helper()
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
	execute(t, admin, `CREATE ROLE notes; ALTER DATABASE notes OWNER TO notes`)
	for _, user := range []string{"a", "b"} {
		execute(t, admin, `CREATE ROLE `+user+` LOGIN PASSWORD 'test-only' IN ROLE notes; ALTER ROLE `+user+` SET role = 'notes'`)
	}
	uri.User = nil
	uriFile := filepath.Join(t.TempDir(), "uri")
	if err := os.WriteFile(uriFile, []byte(uri.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return admin, config.Database{Postgres: &config.Postgres{
		URIFile: uriFile, CAFile: server.CAFile, MaxConnections: 8, VaultCredentials: &config.VaultCredentials{Mount: "database", Role: "role"},
	}}
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// sessionsOf counts a user's connections.
func sessionsOf(t *testing.T, conn *pgx.Conn, user string) (n int) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", user).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestLoginsChange checks that connections use the current credentials, and that credentials that
// the server rejects are reported and replaced at once. While there are no new credentials,
// existing connections continue.
func TestLoginsChange(t *testing.T) {
	admin, c := otherLogins(t)
	logins := &changing{user: "a"}
	db, err := store.Open(t.Context(), c, logins, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ping := func() {
		t.Helper()
		if err := db.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	logins.become("", errors.New("nobody knows"))
	ping()
	logins.become("b", nil)
	ping()
	if a, b := sessionsOf(t, admin, "a"), sessionsOf(t, admin, "b"); a != 0 || b == 0 {
		t.Errorf("%d sessions of the previous login, %d of the current one", a, b)
	}
	execute(t, admin, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'b'`)
	execute(t, admin, `DROP ROLE b`)
	logins.next = "a"
	ping()
	if strings.Join(logins.refused, " ") != "b" || sessionsOf(t, admin, "a") == 0 {
		t.Errorf("refused: %v", logins.refused)
	}
	execute(t, admin, `ALTER ROLE a NOLOGIN`)
	execute(t, admin, `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'a'`)
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrAuthentication) {
		t.Errorf("%v", err)
	}
	logins.become("", errors.New("nobody knows"))
	if err := db.Ping(t.Context()); !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "nobody knows") {
		t.Errorf("%v", err)
	}
}

// TestURINamesNoLogin checks that a user or a password in the URI is rejected when Vault provides
// them.
func TestURINamesNoLogin(t *testing.T) {
	_, c := otherLogins(t)
	raw, err := os.ReadFile(c.Postgres.URIFile)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := url.Parse(string(raw))
	if err != nil {
		t.Fatal(err)
	}
	withUser, withQuery := *bare, *bare
	withUser.User, withQuery.RawQuery = url.User("a"), bare.RawQuery+"&password=test-only"
	for _, uri := range []string{withUser.String(), withQuery.String(), "host=" + bare.Hostname() + " user=a"} {
		if err := os.WriteFile(c.Postgres.URIFile, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Open(t.Context(), c, &changing{user: "a"}, store.RoleAPI); !errors.Is(err, store.ErrInvalidURI) || !strings.Contains(err.Error(), "without user and password") {
			t.Errorf("%s: %v", uri, err)
		}
	}
}

// TestUsersOfOtherLogins checks that a Job does not take other logins' sessions, which PostgreSQL
// hides from it without a grant, for an idle database.
func TestUsersOfOtherLogins(t *testing.T) {
	admin, c := otherLogins(t)
	api, err := store.Open(t.Context(), c, &changing{user: "a"}, store.RoleAPI)
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	job, err := store.Open(t.Context(), c, &changing{user: "b"}, store.RoleJob)
	if err != nil {
		t.Fatal(err)
	}
	defer job.Close()
	if err := api.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n, err := job.UsersAtWork(t.Context(), 0); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%d users, %v", n, err)
	}
	execute(t, admin, `GRANT pg_read_all_stats TO notes`)
	if n, err := job.UsersAtWork(t.Context(), 0); err != nil || n != 0 {
		t.Errorf("%d users, %v", n, err)
	}
}
