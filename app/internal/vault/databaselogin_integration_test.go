//go:build integration

package vault

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
	"github.com/jackc/pgx/v5"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// lease of the users that the tests create.
const lease = time.Hour

// logins is a process's session and database login, with a clock that the test sets.
type logins struct {
	*testing.T
	vault    *testenv.Vault
	postgres *testenv.Postgres
	role     *testenv.DatabaseRole
	session  *Session
	login    *DatabaseLogin
	// passed is how far the clock was advanced, in nanoseconds.
	passed atomic.Int64
}

func newLogins(t *testing.T) *logins {
	t.Helper()
	l := &logins{T: t, vault: testenv.StartVault(t), postgres: testenv.StartPostgres(t)}
	key := l.vault.CreateTransitKey(t)
	l.role = l.vault.CreateDatabaseRole(t, l.postgres, key.Config.TransitKey, lease)
	l.connectTo(key.Config)
	return l
}

// connectTo gives the process a new session with another configuration.
func (l *logins) connectTo(c config.Vault) {
	l.Helper()
	session, err := newSession(c, func() time.Time { return time.Now().Add(time.Duration(l.passed.Load())) })
	if err != nil {
		l.Fatal(err)
	}
	l.session, l.login = session, session.DatabaseLogin(l.role.Credentials)
}

// token returns the Vault token in use.
func (l *logins) token() (token string) {
	l.Helper()
	if err := l.session.login.Call(l.Context(), func(client *api.Client) error {
		token = client.Token()
		return nil
	}); err != nil {
		l.Fatal(err)
	}
	return token
}

// pass advances the clock.
func (l *logins) pass(d time.Duration) { l.passed.Add(int64(d)) }

// await waits until yes returns true.
func (l *logins) await(what string, yes func() bool) {
	l.Helper()
	for deadline := time.Now().Add(20 * time.Second); !yes(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.Fatalf("not in time: %s", what)
		}
	}
}

// current returns the current user, which must be able to log in.
func (l *logins) current() string {
	l.Helper()
	user, password, err := l.login.Current(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	if err := l.connect(user, password); err != nil {
		l.Fatalf("%s: %v", user, err)
	}
	return user
}

func (l *logins) connect(user, password string) error {
	conn, err := l.open(user, password)
	if err != nil {
		return err
	}
	return conn.Close(l.Context())
}

func (l *logins) open(user, password string) (*pgx.Conn, error) {
	uri, err := url.Parse(l.postgres.URI("notes"))
	if err != nil {
		return nil, err
	}
	uri.User = url.UserPassword(user, password)
	return pgx.Connect(l.Context(), uri.String())
}

// users returns the number of users that Vault has created and not dropped.
func (l *logins) users() (n int) {
	l.Helper()
	conn, err := pgx.Connect(l.Context(), l.postgres.URI("notes"))
	if err != nil {
		l.Fatal(err)
	}
	defer conn.Close(l.Context())
	if err := conn.QueryRow(l.Context(), "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'").Scan(&n); err != nil {
		l.Fatal(err)
	}
	return n
}

// TestDatabaseLogin checks that a user is kept until half of its lease is over, or until the
// database refuses it.
func TestDatabaseLogin(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	first := l.current()
	if again := l.current(); again != first || l.users() != 1 {
		t.Errorf("%s, then %s; %d users", first, again, l.users())
	}
	l.login.Refused("another user")
	if again := l.current(); again != first {
		t.Errorf("%s was refused, but %s was dropped", "another user", first)
	}
	if l.login.Replaced(t.Context(), first) || !l.login.Replaced(t.Context(), "another user") {
		t.Error("Replaced reports the current user as replaced, or another one as current")
	}
	l.pass(lease/2 + time.Second)
	l.await("another login after half of the lease", func() bool { return l.login.Replaced(t.Context(), first) })
	second := l.current()
	if err := l.role.Revoke(t); err != nil {
		t.Fatal(err)
	}
	if l.users() != 0 {
		t.Errorf("%d users after the revocation", l.users())
	}
	// A new user is kept: a replica may not know it yet, and a database that refuses every user
	// must not get them endlessly.
	l.login.Refused(second)
	if user, _, err := l.login.Current(t.Context()); user != second || err != nil {
		t.Errorf("%q, %v", user, err)
	}
	l.pass(refusedPause)
	l.login.Refused(second)
	if third := l.current(); third == second || l.users() != 1 {
		t.Errorf("%s after %s; %d users", third, second, l.users())
	}
}

// TestDatabaseLoginOutlivesVault checks that a user is kept while Vault does not answer, but not
// beyond its lease.
func TestDatabaseLoginOutlivesVault(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	first := l.current()
	l.vault.Seal(t)
	l.pass(lease/2 + time.Second)
	if again := l.current(); again != first {
		t.Errorf("%s, then %s", first, again)
	}
	l.pass(lease / 2)
	if user, _, err := l.login.Current(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%q, %v after the lease", user, err)
	}
	l.vault.Unseal(t)
	l.pass(retryPause)
	if again := l.current(); again == first {
		t.Error("the user outlived its lease")
	}
}

// TestDatabaseLoginFollowsTheToken checks that a renewed token keeps its user, and that a new token
// brings a new user, because Vault drops the user with the token that created it.
func TestDatabaseLoginFollowsTheToken(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	first := l.current()
	token := l.token()
	_, due, err := l.session.renew(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.pass(time.Until(due) + time.Second)
	l.await("renewal of the token", func() bool {
		_ = l.current()
		_, renewed, err := l.session.renew(t.Context())
		return err == nil && renewed.After(due)
	})
	if again := l.current(); again != first || l.token() != token {
		t.Error("a token that was only due for renewal was replaced, or its user was")
	}
	if err := l.vault.Client(t).Auth().Token().RevokeTree(token); err != nil {
		t.Fatal(err)
	}
	l.pass(lease / 4)
	l.await("another login with another token", func() bool { return l.login.Replaced(t.Context(), first) })
	if l.current() == first {
		t.Error("the user of a revoked token is still in use")
	}
	l.await("end of the revoked token's user", func() bool { return l.users() == 1 })
}

// TestTokenIsReplacedInTime checks that a token near the end of its longest life, and its user, are
// replaced in time, also if nobody asks for them.
func TestTokenIsReplacedInTime(t *testing.T) {
	l := newLogins(t)
	if _, err := l.vault.Client(t).Logical().Write("auth/jwt/role/"+config.RoleAPI, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": []string{"api"},
		"token_ttl": "4s", "token_max_ttl": "6s",
	}); err != nil {
		t.Fatal(err)
	}
	go l.login.Run(t.Context())
	first := l.current()
	made := time.Now()
	l.await("another login", func() bool { return l.login.Replaced(t.Context(), first) })
	if took := time.Since(made); took >= 6*time.Second {
		t.Errorf("the user was replaced after %s, when Vault had dropped it", took)
	}
	if second := l.current(); l.users() != 2 {
		t.Errorf("%s replaced %s, which was dropped before its connections could end", second, first)
	}
}

// TestDatabaseLoginDoesNotInherit checks that a waiting caller does not fail because the first
// caller gave up.
func TestDatabaseLoginDoesNotInherit(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := l.login.Current(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v: a cancelled request waited", err)
	}
	l.current()
	if n := l.users(); n != 1 {
		t.Errorf("%d users were created for two callers", n)
	}
}

// TestVaultDoesNotAnswer checks that callers do not wait for Vault while they have a valid user.
func TestVaultDoesNotAnswer(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	address, err := url.Parse(l.vault.Address)
	if err != nil {
		t.Fatal(err)
	}
	link := testenv.NewLink(t, address.Host)
	address.Host = link.Address()
	c := l.session.config
	c.Address = address.String()
	l.connectTo(c)
	first := l.current()
	release := link.HoldRequests()
	defer release()
	l.pass(lease/2 + time.Second)
	for range 3 {
		begun := time.Now()
		if l.login.Replaced(t.Context(), first) {
			t.Error("the user was replaced, but Vault does not answer")
		}
		if again := l.current(); again != first {
			t.Errorf("%s, then %s", first, again)
		}
		if took := time.Since(begun); took > callTimeout/2 {
			t.Errorf("it took %s", took)
		}
	}
	l.pass(lease / 2)
	begun := time.Now()
	if _, _, err := l.login.Current(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took > 2*callTimeout+time.Second {
		t.Errorf("a caller without a user was answered after %s", took)
	}
}

// TestNoDatabaseLogin checks that the error names each cause and no secret.
func TestNoDatabaseLogin(t *testing.T) {
	t.Parallel()
	l := newLogins(t)
	administrator := l.vault.Client(t)
	if err := administrator.Sys().PutPolicy("api", `path "+/creds/*" { capabilities = ["read"] }`); err != nil {
		t.Fatal(err)
	}
	if err := administrator.Sys().Mount("other", &api.MountInput{Type: "kv"}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		credentials config.VaultCredentials
		before      func()
		want        error
		says        string
	}{
		"no role":     {credentials: config.VaultCredentials{Mount: "database", Role: "nobody"}, want: ErrNoDatabaseLogin, says: "unknown role: nobody"},
		"no mount":    {credentials: config.VaultCredentials{Mount: "nowhere", Role: "role"}, want: ErrNoDatabaseLogin, says: "nowhere/creds/role"},
		"other mount": {credentials: config.VaultCredentials{Mount: "other", Role: "role"}, want: ErrNoDatabaseLogin, says: "no database engine answers"},
		"no right":    {credentials: config.VaultCredentials{Mount: "a/b", Role: "role"}, want: ErrDenied, says: "HTTP 403"},
		"no database": {credentials: l.role.Credentials, before: func() { l.postgres.Stop(t) }, want: ErrNoDatabaseLogin, says: "cannot log in to the database"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.before != nil {
				tc.before()
			}
			_, _, err := l.session.DatabaseLogin(tc.credentials).Current(t.Context())
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "password") {
				t.Errorf("%v", err)
			}
		})
	}
}
