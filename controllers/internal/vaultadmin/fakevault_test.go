package vaultadmin

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
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

// fakeVault fakes Vault's KV version 2 and Transit with the operator's rights, and the status that
// records secrets. One write to either can fail.
type fakeVault struct {
	mu      sync.Mutex
	entries map[string][]*kvVersion
	keys    map[string]map[string]any
	status  Secrets
	// olderPolicies allow to delete metadata, but not to destroy versions.
	olderPolicies bool
	// denied is the prefix of denied paths. Empty: none.
	denied string
	// beforeWrite is called before each write to a KV entry.
	beforeWrite func(entry string)
	// at is the number of the write that fails, from 1. 0: none. after makes it fail after it has
	// taken effect.
	at     int
	after  bool
	writes int
	// requests are the paths that were requested.
	requests []string
	// now is the clock of the client; nil for the real one.
	now func() time.Time
}

type kvVersion struct {
	data               json.RawMessage
	deleted, destroyed bool
}

func (v *kvVersion) usable() bool { return !v.deleted && !v.destroyed }

var errCrash = errors.New("crash")

// strike performs a write, unless it is the one that fails.
func (f *fakeVault) strike(write func() int) (code int) {
	f.writes++
	struck := f.writes == f.at
	if !struck || f.after {
		code = write()
	}
	if struck {
		return http.StatusInternalServerError
	}
	return code
}

func (f *fakeVault) record(_ context.Context, secrets Secrets) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.strike(func() int { f.status = secrets; return 0 }) != 0 {
		return errCrash
	}
	return nil
}

func (f *fakeVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	f.requests = append(f.requests, path)
	if f.denied != "" && strings.HasPrefix(path, f.denied) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	engine, rest, _ := strings.Cut(path, "/")
	kind, name, _ := strings.Cut(rest, "/")
	switch {
	case engine == "auth":
		fmt.Fprint(w, `{"auth":{"client_token":"t","lease_duration":900,"renewable":true}}`)
	case r.Method == http.MethodGet:
		f.read(w, engine, kind, name)
	default:
		body := map[string]json.RawMessage{}
		_ = json.NewDecoder(r.Body).Decode(&body)
		if code := f.strike(func() int { return f.write(r.Method, engine, kind, name, body) }); code != 0 {
			w.WriteHeader(code)
		}
	}
}

func (f *fakeVault) read(w http.ResponseWriter, engine, kind, name string) {
	answer := func(data map[string]any) { _ = json.NewEncoder(w).Encode(map[string]any{"data": data}) }
	versions := f.entries[name]
	switch {
	case (engine == "transit" || engine == "database") && f.keys[name] != nil:
		answer(f.keys[name])
	case kind == "metadata" && versions != nil:
		all := map[string]any{}
		for i, version := range versions {
			deletion := ""
			if version.deleted {
				deletion = "2026-01-01T00:00:00.123456Z"
			}
			all[fmt.Sprint(i+1)] = map[string]any{"created_time": "x", "deletion_time": deletion, "destroyed": version.destroyed}
		}
		answer(map[string]any{"current_version": len(versions), "versions": all})
	case kind == "data" && strings.HasSuffix(name, "/"+config.MarkerLeaf) && versions != nil:
		answer(map[string]any{"data": versions[len(versions)-1].data, "metadata": map[string]any{"version": len(versions)}})
	case kind == "data" && versions != nil:
		w.WriteHeader(http.StatusForbidden)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func (f *fakeVault) write(method, engine, kind, name string, body map[string]json.RawMessage) (code int) {
	versions := f.entries[name]
	switch {
	case engine == "transit" && method == http.MethodDelete:
		delete(f.keys, name)
	case engine == "transit" && strings.HasSuffix(name, "/rotate"):
		rotate(f.keys[strings.TrimSuffix(name, "/rotate")])
	case engine == "transit" && strings.HasSuffix(name, "/config") && body["min_encryption_version"] != nil:
		f.keys[strings.TrimSuffix(name, "/config")]["min_encryption_version"] = body["min_encryption_version"]
	case engine == "transit":
		if _, of := body["type"]; of && f.keys[name] == nil {
			f.keys[name] = transitKey(string(body["type"]))
		}
	case kind == "metadata" && !f.olderPolicies && strings.Contains(name, "/"+config.PepperLeaf),
		kind == "destroy" && f.olderPolicies:
		return http.StatusForbidden
	case kind == "metadata":
		delete(f.entries, name)
	case kind == "destroy":
		var numbers []int
		if json.Unmarshal(body["versions"], &numbers) != nil {
			return http.StatusBadRequest
		}
		for _, number := range numbers {
			*versions[number-1] = kvVersion{destroyed: true}
		}
	default:
		if f.beforeWrite != nil {
			f.beforeWrite(name)
			versions = f.entries[name]
		}
		var options struct{ CAS int }
		if json.Unmarshal(body["options"], &options) != nil || (versions != nil && !strings.HasSuffix(name, "/"+config.MarkerLeaf)) {
			return http.StatusForbidden // the operator may not update
		}
		if options.CAS != len(versions) {
			return http.StatusBadRequest
		}
		f.entries[name] = append(versions, &kvVersion{data: body["data"]})
	}
	return 0
}

func transitKey(kind string) map[string]any {
	key := map[string]any{
		"type": strings.Trim(kind, `"`), "exportable": false, "allow_plaintext_backup": false, "derived": true, "supports_encryption": true,
		"latest_version": 1, "min_decryption_version": 1, "min_encryption_version": 0, "min_available_version": 0,
		"keys": map[string]any{"1": time.Now().Unix()},
	}
	if key["type"] == "ed25519" {
		key["keys"] = map[string]any{"1": signingVersion()}
	}
	return key
}

// signingVersion returns a new version of an ed25519 key as Vault shows it.
func signingVersion() map[string]any {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return map[string]any{"public_key": base64.StdEncoding.EncodeToString(public), "creation_time": time.Now().Format(time.RFC3339Nano)}
}

// rotate adds a version to an ed25519 key.
func rotate(key map[string]any) {
	latest := key["latest_version"].(int) + 1
	key["latest_version"] = latest
	key["keys"].(map[string]any)[fmt.Sprint(latest)] = signingVersion()
}

// plant creates an entry as an attacker.
func (f *fakeVault) plant(leaf string) {
	f.entries["dir/"+leaf] = append(f.entries["dir/"+leaf], &kvVersion{data: json.RawMessage(`{"jwks":"planted"}`)})
}

// usable returns the entries whose value can be read.
func (f *fakeVault) usable() []string {
	var leaves []string
	for entry, versions := range f.entries {
		if versions[len(versions)-1].usable() {
			leaves = append(leaves, strings.TrimPrefix(entry, "dir/"))
		}
	}
	slices.Sort(leaves)
	return leaves
}

func (f *fakeVault) marker(t *testing.T) config.Marker {
	t.Helper()
	marker, versions := config.Marker{}, f.entries["dir/marker"]
	if len(versions) == 0 {
		return marker
	}
	if err := json.Unmarshal(versions[len(versions)-1].data, &marker); err != nil {
		t.Fatal(err)
	}
	return marker
}

// mustHold checks that an entry has the value with the recorded digest.
func (f *fakeVault) mustHold(t *testing.T, recorded Secret, value interface{ Digest() (string, error) }) {
	t.Helper()
	versions := f.entries["dir/"+recorded.Entry]
	if len(versions) != 1 || !versions[0].usable() {
		t.Fatalf("%q has %d versions, want one that can be read", recorded.Entry, len(versions))
	}
	if err := json.Unmarshal(versions[0].data, value); err != nil {
		t.Fatal(err)
	}
	if digest, err := value.Digest(); err != nil || digest != recorded.Digest {
		t.Errorf("%s has digest %s, %v; recorded is %s", recorded.Entry, digest, err, recorded.Digest)
	}
}

func (f *fakeVault) mustHoldRecorded(t *testing.T) {
	t.Helper()
	f.mustHold(t, f.status.SessionKeys, &config.SessionKeys{})
	f.mustHold(t, f.status.Pepper, &config.Pepper{})
	if marker := f.marker(t); marker.Pepper != f.status.Pepper.Entry || marker.PepperDigest != f.status.Pepper.Digest {
		t.Errorf("the marker has %+v, the status %+v", marker, f.status)
	}
	if f.status.NextSessionKeys != (Secret{}) {
		t.Errorf("still to be created: %+v", f.status.NextSessionKeys)
	}
}

// mustNameAll checks that Shred could find all entries.
func (f *fakeVault) mustNameAll(t *testing.T) {
	t.Helper()
	marker := f.marker(t)
	named := append(sessionKeysEntries(marker), config.MarkerLeaf, config.PepperLeaf, marker.Pepper)
	for _, leaf := range f.usable() {
		if !slices.Contains(named, leaf) {
			t.Errorf("%s is not in the marker %+v", leaf, marker)
		}
	}
}

// UIDs of objects, namespaces and clusters.
const (
	ownUID        = "0b1d0000-0000-4000-8000-000000000001"
	oldUID        = "0b1d0000-0000-4000-8000-000000000002"
	newUID        = "0b1d0000-0000-4000-8000-000000000003"
	firstUID      = "0b1d0000-0000-4000-8000-000000000004"
	anotherUID    = "0b1d0000-0000-4000-8000-000000000005"
	otherUID      = "0b1d0000-0000-4000-8000-000000000006"
	deposedUID    = "0b1d0000-0000-4000-8000-000000000007"
	forgedUID     = "0b1d0000-0000-4000-8000-000000000008"
	nsUID         = "0b1d0000-0000-4000-8000-000000000009"
	ns2UID        = "0b1d0000-0000-4000-8000-00000000000a"
	ownClusterUID = "0b1d0000-0000-4000-8000-00000000000b"
	rebuiltUID    = "0b1d0000-0000-4000-8000-00000000000c"
	lostUID       = "0b1d0000-0000-4000-8000-00000000000d"
)

// deployment returns the Deployment of the object uid, as the operator reads it.
func (f *fakeVault) deployment(uid string, established bool) Deployment {
	d := Deployment{Key: "key", AuditKey: "audit", BackupKey: "backup", Directory: "dir", UID: uid, AdoptOf: ownUID, Secrets: f.status, Record: f.record}
	if established {
		d.DeploymentID = ownUID
	}
	return d
}

// start starts with an empty Vault.
func (f *fakeVault) start(t *testing.T) *Client {
	t.Helper()
	f.entries, f.keys = map[string][]*kvVersion{}, map[string]map[string]any{}
	if f.now == nil {
		f.now = time.Now
	}
	server := httptest.NewTLSServer(f)
	t.Cleanup(server.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("jwt"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(Connection{
		Name: "default", Address: server.URL, AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", DatabaseMount: "database", TokenFile: token,
		CABundle: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})),
	}, f.now)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// startEarlier starts with what an earlier release has created for the object uid.
func (f *fakeVault) startEarlier(t *testing.T) *Client {
	t.Helper()
	client := f.start(t)
	f.keys["key"], f.keys["audit"] = transitKey("aes256-gcm96"), transitKey("ed25519")
	for leaf, data := range map[string]string{
		"marker": `{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `"}`, "session-keys": `{"jwks":"old"}`, "pepper": `{"currentID":"old"}`,
	} {
		f.entries["dir/"+leaf] = []*kvVersion{{data: json.RawMessage(data)}}
	}
	return client
}
