package vault

import (
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestRedirects checks that one redirect from https to https is followed, like those of Vault's
// standby nodes. A second one is not, nor is one to plain HTTP, which would send tokens in the
// clear.
func TestRedirects(t *testing.T) {
	for name, tc := range map[string]struct {
		// secure: Vault redirects to https. again: that server redirects, too.
		secure, again bool
		// first and second count the requests at the targets of the redirects.
		first, second int32
	}{
		"to https":        {secure: true, first: 1},
		"to https and on": {secure: true, again: true, first: 1},
		"to plain http":   {},
	} {
		t.Run(name, func(t *testing.T) {
			var first, second atomic.Int32
			last := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				second.Add(1)
				w.WriteHeader(http.StatusForbidden)
			}))
			defer last.Close()
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				first.Add(1)
				if tc.again {
					http.Redirect(w, r, last.URL+r.URL.Path, http.StatusTemporaryRedirect)
					return
				}
				w.WriteHeader(http.StatusForbidden)
			})
			next := httptest.NewUnstartedServer(handler)
			if tc.secure {
				next.StartTLS()
			} else {
				next.Start()
			}
			defer next.Close()
			vault := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, next.URL+r.URL.Path, http.StatusTemporaryRedirect)
			}))
			defer vault.Close()
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: vault.Certificate().Raw})
			session := sessionOf(t, config.Vault{Address: vault.URL, CAFile: written(t, ca)})
			if _, _, err := session.renew(context.Background()); err == nil {
				t.Error("logged in")
			}
			if first.Load() != tc.first || second.Load() != tc.second {
				t.Errorf("the servers got %d and %d requests, want %d and %d", first.Load(), second.Load(), tc.first, tc.second)
			}
		})
	}
}

// TestVaultCertificateIsVerified checks that the environment cannot turn off the verification.
func TestVaultCertificateIsVerified(t *testing.T) {
	t.Setenv("VAULT_SKIP_VERIFY", "true")
	var asked atomic.Int32
	vault := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer vault.Close()
	session := sessionOf(t, config.Vault{Address: vault.URL})
	if _, _, err := session.renew(context.Background()); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server with an untrusted certificate: %v", err)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("it got %d requests", n)
	}
}

// sessionOf returns a session with a token file.
func sessionOf(t *testing.T, c config.Vault) *Session {
	t.Helper()
	c.AuthMount, c.Role, c.TokenFile = "kubernetes", "api", written(t, []byte("a service account's token"))
	session, err := NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func written(t *testing.T, raw []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
