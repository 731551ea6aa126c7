package vaultlogin

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// life of the tokens that the fake Vault gives out.
const life = 15 * time.Minute

// fake is a Vault with one Kubernetes auth method, and the process's clock.
type fake struct {
	mu sync.Mutex
	// accounts are the service-account tokens of the logins.
	accounts []string
	renewals int
	// valid is the only Vault token that is accepted.
	valid string
	// renewed is how long a renewed token lasts.
	renewed time.Duration
	// refuse answers logins with this status; 0: they succeed.
	refuse int
	// tokenless answers logins without a token.
	tokenless bool
	now       time.Time
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	token := func(life time.Duration) {
		fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":%d,"renewable":true}}`, f.valid, int(life.Seconds()))
	}
	switch {
	case r.URL.Path == "/v1/auth/kubernetes/login":
		var body struct{ Role, JWT string }
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil || body.Role != "role" || r.Header.Get("X-Vault-Token") != "" {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		f.accounts = append(f.accounts, body.JWT)
		if f.refuse != 0 {
			w.WriteHeader(f.refuse)
			return
		}
		if f.valid = fmt.Sprintf("token-%d", len(f.accounts)); f.tokenless {
			f.valid = ""
		}
		token(life)
	case r.Header.Get("X-Vault-Token") != f.valid:
		w.WriteHeader(http.StatusForbidden)
	case strings.HasSuffix(r.URL.Path, "/renew-self"):
		f.renewals++
		token(f.renewed)
	default:
		fmt.Fprint(w, `{"data":{}}`)
	}
}

// revoke makes Vault forget the token.
func (f *fake) revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.valid = "revoked"
}

// pass advances the clock.
func (f *fake) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = f.now.Add(d)
}

func start(t *testing.T, change func(*Options)) (vault *fake, login *Login, tokenFile string) {
	t.Helper()
	vault = &fake{renewed: life, now: time.Unix(1_800_000_000, 0)}
	server := httptest.NewTLSServer(vault)
	t.Cleanup(server.Close)
	tokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("account-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	options := Options{
		Address: server.URL, CAs: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
		AuthMount: "kubernetes", Role: "role", TokenFile: tokenFile, Timeout: 10 * time.Second,
		Now: func() time.Time {
			vault.mu.Lock()
			defer vault.mu.Unlock()
			return vault.now
		},
	}
	if change != nil {
		change(&options)
	}
	login, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return vault, login, tokenFile
}

// read is a call that needs a token.
func read(ctx context.Context, login *Login) error {
	return login.Call(ctx, func(client *api.Client) error {
		_, err := client.Logical().ReadWithContext(ctx, "a/path")
		return err
	})
}

func (f *fake) want(t *testing.T, when string, err error, logins, renewals int) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil || len(f.accounts) != logins || f.renewals != renewals {
		t.Errorf("%s: error %v, %d logins and %d renewals, want none, %d and %d", when, err, len(f.accounts), f.renewals, logins, renewals)
	}
}

func TestTokenIsRenewed(t *testing.T) {
	vault, login, _ := start(t, nil)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if err := read(t.Context(), login); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	vault.want(t, "twenty calls at once", nil, 1, 0)
	vault.pass(life/2 - time.Second)
	vault.want(t, "before half of its life", read(t.Context(), login), 1, 0)
	vault.pass(life/6 + time.Second)
	vault.want(t, "after two thirds of its life", read(t.Context(), login), 1, 1)
	vault.pass(life)
	vault.want(t, "after its end", read(t.Context(), login), 2, 1)
	if n := login.Logins(); n != 2 {
		t.Errorf("%d logins are counted, want 2", n)
	}
}

// TestTokenIsReplacedNearItsLongestLife checks that a token is replaced before it ends, because
// what was created with it ends with it.
func TestTokenIsReplacedNearItsLongestLife(t *testing.T) {
	vault, login, _ := start(t, nil)
	vault.want(t, "the first call", read(t.Context(), login), 1, 0)
	vault.renewed = life / 3
	vault.pass(life * 2 / 3)
	vault.want(t, "a renewal for a short time", read(t.Context(), login), 2, 1)
}

// TestRevokedTokenIsReplaced checks that a login after a revocation reads the token file again. It
// has another token if the service account was recreated.
func TestRevokedTokenIsReplaced(t *testing.T) {
	vault, login, tokenFile := start(t, nil)
	vault.want(t, "the first call", read(t.Context(), login), 1, 0)
	vault.revoke()
	if err := os.WriteFile(tokenFile, []byte("account-2"), 0o600); err != nil {
		t.Fatal(err)
	}
	vault.want(t, "a call with a revoked token", read(t.Context(), login), 2, 0)
	if got := strings.Join(vault.accounts, " "); got != "account-1 account-2" {
		t.Errorf("logins with %s, want account-1 account-2", got)
	}
}

func TestYoungTokenIsKept(t *testing.T) {
	vault, login, _ := start(t, func(o *Options) { o.MinTokenAge = 30 * time.Second })
	vault.want(t, "the first call", read(t.Context(), login), 1, 0)
	vault.revoke()
	if err := read(t.Context(), login); !isForbidden(err) {
		t.Errorf("a young token: error %v, want HTTP 403", err)
	}
	vault.want(t, "a young token", nil, 1, 0)
	vault.pass(30 * time.Second)
	vault.want(t, "an old token", read(t.Context(), login), 2, 0)
}

func TestFailedLoginIsRemembered(t *testing.T) {
	const pause = 5 * time.Second
	vault, login, _ := start(t, func(o *Options) { o.FailurePause = pause })
	vault.refuse = http.StatusForbidden
	for range 3 {
		failure, ok := errors.AsType[*Error](read(t.Context(), login))
		if !ok || failure.Path != "auth/kubernetes/login" || !isForbidden(failure) {
			t.Errorf("error %v, want an Error of auth/kubernetes/login with HTTP 403", failure)
		}
	}
	vault.want(t, "three calls", nil, 1, 0)
	vault.refuse = 0
	vault.pass(pause)
	vault.want(t, "after the pause", read(t.Context(), login), 2, 0)
}

// TestCancelledLoginIsForgotten checks that a cancelled call does not fail the next one.
func TestCancelledLoginIsForgotten(t *testing.T) {
	vault, login, _ := start(t, func(o *Options) { o.FailurePause = time.Hour })
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := read(ended, login); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	vault.want(t, "another call", read(t.Context(), login), 1, 0)
}

func TestNoToken(t *testing.T) {
	for name, tc := range map[string]struct {
		prepare func(*fake, string) error
		want    error
		logins  int
	}{
		"no file":       {prepare: func(_ *fake, file string) error { return os.Remove(file) }, want: ErrTokenFile},
		"an empty file": {prepare: func(_ *fake, file string) error { return os.Truncate(file, 0) }, want: ErrTokenFile},
		"a large file":  {prepare: func(_ *fake, file string) error { return os.Truncate(file, maxTokenFile+1) }, want: ErrTokenFile},
		"no token":      {prepare: func(f *fake, _ string) error { f.tokenless = true; return nil }, want: ErrNoToken, logins: 1},
	} {
		t.Run(name, func(t *testing.T) {
			vault, login, file := start(t, nil)
			if err := tc.prepare(vault, file); err != nil {
				t.Fatal(err)
			}
			if err := read(t.Context(), login); !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			vault.want(t, "the login", nil, tc.logins, 0)
		})
	}
}

func TestNewRejectsCAsThatAreNoCertificates(t *testing.T) {
	if _, err := New(Options{Address: "https://127.0.0.1", CAs: []byte("no PEM")}); err == nil {
		t.Error("a CA bundle without a certificate was accepted")
	}
}
