//go:build integration

package vault

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
)

// as returns a connection of the user, which is open until the test ends.
func (l *logins) as(user, password string) *pgx.Conn {
	l.Helper()
	conn, err := l.open(user, password)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// admin returns a connection of the server's superuser.
func (l *logins) admin() *pgx.Conn {
	l.Helper()
	conn, err := pgx.Connect(l.Context(), l.postgres.URI("notes"))
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestThiefOfALogin checks what a stolen user of config/samples/database-credentials can do: it
// does not survive its revocation, does not prevent that of others, and does not get Vault's
// rights.
func TestThiefOfALogin(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	user, password, err := l.login.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	other := l.session.DatabaseLogin(l.role.Credentials)
	if _, _, err := other.Current(t.Context()); err != nil {
		t.Fatal(err)
	}
	thief := l.as(user, password)
	for _, attempt := range []struct {
		sql     string
		allowed bool
	}{
		// A trap for Vault's own statements, which may create any role.
		{sql: `CREATE FUNCTION public.pg_terminate_backend(integer, bigint) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN CREATE ROLE backdoor LOGIN CREATEROLE IN ROLE pg_execute_server_program; RETURN true; END $$`, allowed: true},
		{sql: `CREATE FUNCTION public.pg_terminate_backend(integer) RETURNS boolean LANGUAGE plpgsql AS $$
			BEGIN CREATE ROLE backdoor LOGIN CREATEROLE IN ROLE pg_execute_server_program; RETURN true; END $$`, allowed: true},
		{sql: `ALTER DATABASE notes SET search_path = public, pg_catalog`},
		{sql: `ALTER DATABASE notes SET default_transaction_read_only = on`},
		{sql: `CREATE ROLE another LOGIN`},
		{sql: `ALTER ROLE "` + user + `" VALID UNTIL 'infinity'`},
		// A role that owns something cannot be dropped.
		{sql: `RESET ROLE; CREATE TABLE public.mine (x int)`, allowed: true},
	} {
		if _, err := thief.Exec(t.Context(), attempt.sql); (err == nil) != attempt.allowed {
			t.Errorf("%s: %v", attempt.sql, err)
		}
	}
	if err := l.role.Revoke(t); err != nil {
		t.Errorf("revoke: %v", err)
	}
	if _, err := thief.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("the thief's session continues")
	}
	if _, err := l.open(user, password); err == nil {
		t.Error("the thief logs in again")
	}
	admin := l.admin()
	count := func(query string) (n int) {
		t.Helper()
		if err := admin.QueryRow(t.Context(), query).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := count("SELECT count(*) FROM pg_roles WHERE rolname = 'backdoor'"); n != 0 {
		t.Error("the trap has worked")
	}
	if n := count("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%' AND rolcanlogin"); n != 0 {
		t.Errorf("%d logins are left", n)
	}
	if n := count("SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member WHERE rolname LIKE 'v-%'"); n != 0 {
		t.Errorf("%d users that own something have kept their rights", n)
	}
}

// TestSessionsOfDroppedUsersEnd checks that a session that started while its user was dropped ends
// when the next user is created, at the latest.
func TestSessionsOfDroppedUsersEnd(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	user, password, err := l.login.Current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, admin := l.as(user, password), l.admin()
	if _, err := admin.Exec(t.Context(), `DROP ROLE "`+user+`"`); err != nil {
		t.Fatal(err)
	}
	if _, err := session.Exec(t.Context(), "CREATE TABLE after (x int)"); err != nil {
		t.Fatalf("this test needs a session that continues without its user: %v", err)
	}
	if _, _, err := l.session.DatabaseLogin(l.role.Credentials).Current(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.await("end of the session", func() bool {
		_, err := session.Exec(t.Context(), "SELECT 1")
		return err != nil
	})
}
