package vaultadmin

import (
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// server fakes Vault's login and one key.
type server struct {
	mu       sync.Mutex
	logins   int
	renewals int
	// valid is the accepted token. Empty: none.
	valid string
	// status is the answer to every call but logins. 0: they succeed.
	status int
	// headers of the last request.
	headers http.Header
	// refuse is the answer to logins. 0: they succeed.
	refuse int
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.headers = r.Header.Clone()
	fail := func(code int, message string) {
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]any{"errors": []string{message}})
	}
	token := func() {
		fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":900,"renewable":true}}`, s.valid)
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/login"):
		s.logins++
		if s.refuse != 0 {
			fail(s.refuse, "secret words of Vault")
			return
		}
		s.valid = fmt.Sprintf("token-%d", s.logins)
		token()
	case r.Header.Get("X-Vault-Token") != s.valid:
		fail(http.StatusForbidden, "permission denied")
	case strings.HasSuffix(r.URL.Path, "/renew-self"):
		s.renewals++
		token()
	case s.status != 0:
		fail(s.status, "Vault is sealed")
	default:
		fmt.Fprint(w, `{"data":{"type":"aes256-gcm96","derived":true,"exportable":false,"allow_plaintext_backup":false,"supports_encryption":true,"latest_version":3,"min_decryption_version":1,"min_encryption_version":0,"min_available_version":0}}`)
	}
}

type clock struct{ now time.Time }

func start(t *testing.T) (*server, *clock, *Client) {
	t.Helper()
	s := &server{}
	httpServer := httptest.NewTLSServer(s)
	t.Cleanup(httpServer.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: httpServer.Certificate().Raw})
	client, err := NewClient(Connection{
		Name: "default", Address: httpServer.URL, CABundle: string(ca), AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", TokenFile: token,
	}, func() time.Time { return c.now })
	if err != nil {
		t.Fatal(err)
	}
	return s, c, client
}

func TestOneLogin(t *testing.T) {
	s, c, client := start(t)
	var wait sync.WaitGroup
	for range 20 {
		wait.Go(func() {
			if state, err := client.ReadKey(t.Context(), "key"); err != nil || state.Latest != 3 {
				t.Errorf("got %+v and error %v, want latest version 3", state, err)
			}
		})
	}
	wait.Wait()
	if s.logins != 1 {
		t.Errorf("%d logins for twenty calls at once", s.logins)
	}
	c.now = c.now.Add(11 * time.Minute)
	if _, err := client.ReadKey(t.Context(), "key"); err != nil || s.renewals != 1 || s.logins != 1 {
		t.Errorf("after two thirds of its life: %v, %d renewals, %d logins", err, s.renewals, s.logins)
	}
	c.now = c.now.Add(time.Hour)
	if _, err := client.ReadKey(t.Context(), "key"); err != nil || s.logins != 2 {
		t.Errorf("after its end: %v, %d logins", err, s.logins)
	}
}

func TestLoginAgainWhenRevoked(t *testing.T) {
	s, c, client := start(t)
	if _, err := client.ReadKey(t.Context(), "key"); err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.valid = "another"
	s.mu.Unlock()
	c.now = c.now.Add(time.Minute)
	if _, err := client.ReadKey(t.Context(), "key"); err != nil || s.logins != 2 {
		t.Errorf("error %v after %d logins, want none after 2", err, s.logins)
	}
}

func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		refuse, status int
		want           Problem
		// logins of three consecutive calls. A refusal is remembered for a while.
		logins int
	}{
		"no such role":  {refuse: http.StatusBadRequest, want: SetupMissing, logins: 1},
		"not let in":    {refuse: http.StatusForbidden, want: SetupMissing, logins: 1},
		"no such mount": {refuse: http.StatusNotFound, want: SetupMissing, logins: 1},
		"sealed":        {refuse: http.StatusServiceUnavailable, want: Unreachable, logins: 1},
		"sealed later":  {status: http.StatusServiceUnavailable, want: Sealed, logins: 1},
		"broken":        {status: http.StatusInternalServerError, want: Unreachable, logins: 1},
		"denied":        {status: http.StatusForbidden, want: Denied, logins: 1},
		"odd":           {status: http.StatusTeapot, want: Unexpected, logins: 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, client := start(t)
			s.refuse, s.status = tc.refuse, tc.status
			for range 3 {
				_, err := client.ReadKey(t.Context(), "key")
				if ProblemOf(err) != tc.want {
					t.Errorf("%s: %v, want %s", ProblemOf(err), err, tc.want)
				}
				if strings.Contains(err.Error(), "secret words") || strings.Contains(err.Error(), "jwt") {
					t.Errorf("the error quotes what it must not: %v", err)
				}
			}
			if s.logins != tc.logins {
				t.Errorf("%d logins, want %d", s.logins, tc.logins)
			}
		})
	}
}

// TestEnvironmentIsNotRead checks that the operator's environment changes neither the trusted CAs
// nor the target of its token.
func TestEnvironmentIsNotRead(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a proxy got a request") }))
	t.Cleanup(proxy.Close)
	for name, value := range map[string]string{
		"VAULT_SKIP_VERIFY": "1", "VAULT_TLS_SERVER_NAME": "elsewhere.example.com", "VAULT_ADDR": "https://127.0.0.1:1",
		"VAULT_PROXY_ADDR": proxy.URL, "VAULT_HTTP_PROXY": proxy.URL, "VAULT_NAMESPACE": "elsewhere", "VAULT_TOKEN": "elsewhere",
		"VAULT_HEADERS": `{"A":"b"}`, "VAULT_MAX_RETRIES": "9",
	} {
		t.Setenv(name, value)
	}
	s, c, client := start(t)
	if _, err := client.ReadKey(t.Context(), "key"); err != nil {
		t.Errorf("the trusted server: %v", err)
	}
	if s.headers.Get("A") != "" || s.headers.Get("X-Vault-Namespace") != "" || s.headers.Get("X-Vault-Request") != "true" {
		t.Errorf("headers %v", s.headers)
	}
	// The same server, for a client without its CA.
	untrusting := client.session.connection
	untrusting.CABundle = ""
	stranger, err := NewClient(untrusting, func() time.Time { return c.now })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.ReadKey(t.Context(), "key"); ProblemOf(err) != Unreachable || s.logins != 1 {
		t.Errorf("a server that is not trusted: %v, %d logins", err, s.logins)
	}
}

func TestOldTLSIsRefused(t *testing.T) {
	s := &server{}
	httpServer := httptest.NewUnstartedServer(s)
	httpServer.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	httpServer.StartTLS()
	t.Cleanup(httpServer.Close)
	_, c, client := start(t)
	old := client.session.connection
	old.Address, old.CABundle = httpServer.URL, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: httpServer.Certificate().Raw}))
	stranger, err := NewClient(old, func() time.Time { return c.now })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.ReadKey(t.Context(), "key"); err == nil || s.logins != 0 {
		t.Errorf("TLS 1.1 was accepted: %v, %d logins", err, s.logins)
	}
}
