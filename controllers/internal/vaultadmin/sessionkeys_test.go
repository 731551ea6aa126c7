package vaultadmin

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// kv plays Vault's KV version 2, and fails at one write.
type kv struct {
	mu       sync.Mutex
	entries  map[string]json.RawMessage
	versions map[string]int
	// at is the write that fails, from 1; 0: none. after says that it goes through all the same.
	at     int
	after  bool
	writes int
}

func (k *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/secret/")
	entry := strings.TrimPrefix(strings.TrimPrefix(path, "data/"), "metadata/")
	_, exists := k.entries[entry]
	switch {
	case strings.HasSuffix(path, "/login"):
		fmt.Fprint(w, `{"auth":{"client_token":"t","lease_duration":900,"renewable":true}}`)
	case r.Method == http.MethodGet && !exists:
		w.WriteHeader(http.StatusNotFound)
	case r.Method == http.MethodGet:
		fmt.Fprintf(w, `{"data":{"data":%s,"metadata":{"version":%d}}}`, k.entries[entry], k.versions[entry])
	default:
		k.writes++
		struck := k.writes == k.at
		if !struck || k.after {
			k.write(w, r, entry)
		}
		if struck {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}
}

func (k *kv) write(w http.ResponseWriter, r *http.Request, entry string) {
	if r.Method == http.MethodDelete {
		delete(k.entries, entry)
		delete(k.versions, entry)
		return
	}
	var body struct {
		Options struct{ CAS int }
		Data    json.RawMessage
	}
	if json.NewDecoder(r.Body).Decode(&body) != nil || body.Options.CAS != k.versions[entry] {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	k.entries[entry], k.versions[entry] = body.Data, k.versions[entry]+1
}

func (k *kv) leaves() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	var leaves []string
	for entry := range k.entries {
		leaves = append(leaves, strings.TrimPrefix(entry, "dir/"))
	}
	slices.Sort(leaves)
	return leaves
}

// startKV plays a Vault with the first session keys, a pepper and a marker of the object uid.
func startKV(t *testing.T, k *kv) *Client {
	t.Helper()
	k.entries = map[string]json.RawMessage{
		"dir/marker": json.RawMessage(`{"uid":"uid","deploymentID":"uid"}`), "dir/session-keys": json.RawMessage(`{"jwks":"old"}`), "dir/pepper": json.RawMessage(`{}`),
	}
	k.versions = map[string]int{"dir/marker": 1, "dir/session-keys": 1, "dir/pepper": 1}
	server := httptest.NewTLSServer(k)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(Connection{
		Name: "default", Address: server.URL, AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", TokenFile: token,
		CABundle: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestSessionKeysCrashAnywhere fails each write of two replacements in turn, before and after it goes through,
// and does again what failed. Whatever happens, the newest keys are the only ones, and what is there was at
// every moment named in the marker.
func TestSessionKeysCrashAnywhere(t *testing.T) {
	d := Deployment{Directory: "dir", UID: "uid"}
	replace := func(t *testing.T, k *kv) {
		client := startKV(t, k)
		for _, entry := range []string{"session-keys-2", "session-keys-5"} {
			for _, step := range []func() error{
				func() error { return client.ReplaceSessionKeys(t.Context(), d, entry) },
				func() error { return client.DeleteOtherSessionKeys(t.Context(), d, entry) },
			} {
				if err := step(); err != nil {
					if k.writes < k.at {
						t.Fatal(err)
					}
					marker, _, err := client.readMarker(t.Context(), d.Directory)
					if err != nil {
						t.Fatal(err)
					}
					for _, leaf := range k.leaves() {
						if strings.HasPrefix(leaf, config.SessionKeysLeaf) && !slices.Contains(sessionKeysEntries(marker), leaf) {
							t.Errorf("%s is not in the marker %+v", leaf, marker)
						}
					}
					if err := step(); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	whole := &kv{}
	replace(t, whole)
	if whole.writes < 8 {
		t.Fatalf("two replacements have only %d writes", whole.writes)
	}
	for at := 1; at <= whole.writes; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, went through %t", at, after), func(t *testing.T) {
				k := &kv{at: at, after: after}
				replace(t, k)
				if got := strings.Join(k.leaves(), " "); got != "marker pepper session-keys-5" {
					t.Errorf("Vault has %s", got)
				}
				if got := string(k.entries["dir/marker"]); got != `{"deploymentID":"uid","sessionKeys":"session-keys-5","uid":"uid"}` {
					t.Errorf("the marker is %s", got)
				}
				if k.versions["dir/session-keys-5"] != 1 {
					t.Errorf("the session keys were written %d times", k.versions["dir/session-keys-5"])
				}
			})
		}
	}
}

// TestSessionKeysOfAnother: neither what is another object's, nor what the marker does not call in use.
func TestSessionKeysOfAnother(t *testing.T) {
	k := &kv{}
	client := startKV(t, k)
	for name, tc := range map[string]struct {
		do   func() error
		want Problem
	}{
		"another object's": {func() error {
			return client.ReplaceSessionKeys(t.Context(), Deployment{Directory: "dir", UID: "other"}, "session-keys-2")
		}, Taken},
		"nobody's": {func() error {
			return client.ReplaceSessionKeys(t.Context(), Deployment{Directory: "elsewhere", UID: "uid"}, "session-keys-2")
		}, Missing},
		"not in use": {func() error {
			return client.DeleteOtherSessionKeys(t.Context(), Deployment{Directory: "dir", UID: "uid"}, "session-keys-2")
		}, Unsuitable},
	} {
		if err := tc.do(); ProblemOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	if k.writes != 0 {
		t.Errorf("%d writes", k.writes)
	}
}

// TestSessionKeysAreNeverOlder: whoever was stopped before a replacement that another has followed changes nothing.
func TestSessionKeysAreNeverOlder(t *testing.T) {
	k := &kv{}
	client := startKV(t, k)
	d := Deployment{Directory: "dir", UID: "uid"}
	if err := client.ReplaceSessionKeys(t.Context(), d, "session-keys-10"); err != nil {
		t.Fatal(err)
	}
	before := k.writes
	if err := client.ReplaceSessionKeys(t.Context(), d, "session-keys-9"); ProblemOf(err) != Unsuitable {
		t.Errorf("older session keys: %v, want %s", err, Unsuitable)
	}
	if k.writes != before {
		t.Errorf("%d writes", k.writes-before)
	}
	if err := client.ReplaceSessionKeys(t.Context(), d, "session-keys-10"); err != nil {
		t.Errorf("the same again: %v", err)
	}
}
