package envelope

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// scriptedVault returns a provider with a fake Vault that answers batches as the test says, for
// cases that a real one does not show. Like a standby node, the first server redirects to another
// one.
func scriptedVault(t *testing.T, answer http.HandlerFunc) *Vault {
	t.Helper()
	active := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			fmt.Fprint(w, `{"auth":{"client_token":"t","lease_duration":900}}`)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(active.Close)
	standby := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, active.URL+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(standby.Close)
	c := config.Vault{
		Address: standby.URL, AuthMount: "kubernetes", Role: "api", TransitMount: "transit", TransitKey: "k",
		CAFile: filepath.Join(t.TempDir(), "ca"), TokenFile: filepath.Join(t.TempDir(), "token"),
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: standby.Certificate().Raw})
	if err := errors.Join(os.WriteFile(c.CAFile, ca, 0o600), os.WriteFile(c.TokenFile, []byte("jwt"), 0o600)); err != nil {
		t.Fatal(err)
	}
	session, err := vault.NewSession(c)
	if err != nil {
		t.Fatal(err)
	}
	return NewVault(session, c)
}

// TestBatchFollowsRedirect checks that a redirected request is complete.
func TestBatchFollowsRedirect(t *testing.T) {
	v := scriptedVault(t, func(w http.ResponseWriter, r *http.Request) {
		var request batchRequest
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || len(request.Items) != 2 ||
			string(request.Items[1].Context) != "c2" || request.PartialFailure != http.StatusOK {
			t.Errorf("%+v, %v", request, err)
		}
		fmt.Fprint(w, `{"data":{"batch_results":[{"plaintext":"cjE="},{"plaintext":"cjI="}]}}`)
	})
	results, err := v.Unwrap(context.Background(), []WrappedItem{{"vault:v1:YQ==", []byte("c1")}, {"vault:v1:Yg==", []byte("c2")}})
	if err != nil || string(results[0].Raw) != "r1" || string(results[1].Raw) != "r2" {
		t.Errorf("%q, %v", results, err)
	}
}

// TestAnswersToABatch checks that an invalid answer gives the right error, which quotes no key.
func TestAnswersToABatch(t *testing.T) {
	const key = "c2VjcmV0c2VjcmV0c2VjcmV0" // no error may quote it
	for name, tc := range map[string]struct {
		status int
		body   string
		want   error
	}{
		"nothing":                {status: http.StatusOK, want: nil},
		"no JSON":                {status: http.StatusOK, body: key, want: nil},
		"no results":             {status: http.StatusOK, body: `{"data":{}}`, want: nil},
		"a result too few":       {status: http.StatusOK, body: `{"data":{"batch_results":[{"plaintext":"` + key + `"}]}}`, want: nil},
		"no base64":              {status: http.StatusOK, body: `{"data":{"batch_results":[{"plaintext":"` + key + `"},{"plaintext":"-"}]}}`, want: nil},
		"without an end":         {status: http.StatusOK, body: strings.Repeat(" ", maxBatchAnswer+2*maxItemAnswer), want: nil},
		"refused as a whole":     {status: http.StatusBadRequest, body: `{"errors":["encryption key not found"]}`, want: ErrRefused},
		"refused, with a result": {status: http.StatusBadRequest, body: `{"data":{"batch_results":[{"error":"no"},{"plaintext":"` + key + `"}]}}`, want: ErrRefused},
		"denied":                 {status: http.StatusForbidden, body: `{"errors":["permission denied"]}`, want: ErrDenied},
		"broken":                 {status: http.StatusInternalServerError, body: `{"data":{"batch_results":[{"error":"no"},{"error":"no"}]}}`, want: ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			v := scriptedVault(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tc.status)
				_, _ = io.WriteString(w, tc.body)
			})
			_, err := v.Unwrap(context.Background(), []WrappedItem{{"vault:v1:YQ==", []byte("c")}, {"vault:v1:YQ==", []byte("c")}})
			if err == nil || tc.want != nil && !errors.Is(err, tc.want) || strings.Contains(err.Error(), key) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
		})
	}
	t.Run("broken off", func(t *testing.T) {
		v := scriptedVault(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"data":`)
		})
		if _, err := v.Unwrap(context.Background(), []WrappedItem{{"vault:v1:YQ==", []byte("c")}}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable", err)
		}
	})
	t.Run("each refused", func(t *testing.T) {
		v := scriptedVault(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"data":{"batch_results":[{"error":%q,"plaintext":"YQ=="}]}}`, "n"+strings.Repeat("é", 500))
		})
		results, err := v.Unwrap(context.Background(), []WrappedItem{{"vault:v1:YQ==", []byte("c")}})
		if err != nil || !errors.Is(results[0].Err, ErrRefused) || results[0].Raw != nil || len(results[0].Err.Error()) > 2*maxFailure ||
			!utf8.ValidString(results[0].Err.Error()) {
			t.Errorf("%+v, %v", results, err)
		}
	})
}
