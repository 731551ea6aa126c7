//go:build integration

package vault

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// archivist is a session with the rights of a backup or a restore, beside an administrator.
type archivist struct {
	*Session
	root *api.Logical
	key  *testenv.TransitKey
}

func newArchivist(t *testing.T) *archivist {
	t.Helper()
	server := testenv.StartVault(t)
	key := server.CreateTransitKey(t)
	key.Config.BackupKey = config.BackupKeyName("test", "ns", "name")
	client := server.Client(t)
	rules := fmt.Sprintf("path \"transit/sign/%s\" { capabilities = [\"update\"] }\n", key.Config.BackupKey)
	for _, name := range []string{key.Config.BackupKey, key.Config.TransitKey} {
		rules += fmt.Sprintf("path \"transit/keys/%s\" { capabilities = [\"read\"] }\n", name)
	}
	rules += fmt.Sprintf("path \"secret/data/%s/pepper\" { capabilities = [\"read\"] }\n", key.Config.KVPath)
	rules += fmt.Sprintf("path \"secret/data/%s/pepper-*\" { capabilities = [\"create\", \"read\"] }\n", key.Config.KVPath)
	if err := client.Sys().PutPolicy("api", rules); err != nil {
		t.Fatal(err)
	}
	session, err := NewSession(key.Config)
	if err != nil {
		t.Fatal(err)
	}
	return &archivist{Session: session, root: client.Logical(), key: key}
}

func (a *archivist) write(t *testing.T, path string, data map[string]any) {
	t.Helper()
	if _, err := a.root.Write(path, data); err != nil {
		t.Fatal(err)
	}
}

// mustSign signs a message and checks that the version made the signature.
func (a *archivist) mustSign(t *testing.T, version int) {
	t.Helper()
	message := []byte("a manifest")
	signature, err := a.SignBackup(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := a.BackupKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(signature, fmt.Sprintf("vault:v%d:", version))
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		t.Fatalf("the signature is %q, want one of version %d", signature, version)
	}
	if key, ok := keys.Find(version); !ok || !ed25519.Verify(key.PublicKey, message, raw) {
		t.Errorf("the signature of version %d does not verify with %+v", version, keys)
	}
}

// TestBackupKey signs with each version of the backup key, and reads when each was in use.
func TestBackupKey(t *testing.T) {
	t.Parallel()
	a := newArchivist(t)
	if _, err := a.BackupKeys(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("without a key: %v, want ErrNotFound", err)
	}
	path := "transit/keys/" + a.key.Config.BackupKey
	a.write(t, path, map[string]any{"type": "ed25519"})
	a.mustSign(t, 1)
	a.write(t, path+"/rotate", nil)
	a.write(t, path+"/config", map[string]any{"min_encryption_version": 2})
	a.mustSign(t, 2)
	keys, err := a.BackupKeys(t.Context())
	if err != nil || keys.Key != a.key.Config.BackupKey || len(keys.Versions) != 2 {
		t.Fatalf("got %+v and error %v, want two versions", keys, err)
	}
	first, second := keys.Versions[0], keys.Versions[1]
	if first.Until == nil || !first.Until.Equal(second.Since) || second.Until != nil || !first.Since.Before(second.Since) {
		t.Errorf("got %+v, want the first version to end when the second begins", keys.Versions)
	}
	// What the role may read is not what it may use.
	if _, err := a.Sign(t.Context(), []byte("x")); !errors.Is(err, ErrDenied) {
		t.Errorf("sign with the audit key: %v, want ErrDenied", err)
	}
}

// TestMasterKeyVersions reads the versions of the master key while it is rotated, retired and
// trimmed.
func TestMasterKeyVersions(t *testing.T) {
	t.Parallel()
	a := newArchivist(t)
	check := func(want KeyVersions, created ...int) {
		t.Helper()
		got, err := a.MasterKeyVersions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		listed := slices.Sorted(maps.Keys(got.Created))
		if got.Latest != want.Latest || got.MinDecryption != want.MinDecryption || got.MinAvailable != want.MinAvailable || !slices.Equal(listed, created) {
			t.Errorf("got %+v, want %+v with versions %v", got, want, created)
		}
		for version, at := range got.Created {
			if at.Year() < 2020 {
				t.Errorf("version %d was created at %s", version, at)
			}
		}
	}
	check(KeyVersions{Latest: 1, MinDecryption: 1}, 1)
	a.key.Rotate(t)
	a.key.Rotate(t)
	check(KeyVersions{Latest: 3, MinDecryption: 1}, 1, 2, 3)
	a.key.Retire(t, 3)
	check(KeyVersions{Latest: 3, MinDecryption: 3}, 3)
	a.write(t, "transit/keys/"+a.key.Config.TransitKey+"/trim", map[string]any{"min_available_version": 2})
	check(KeyVersions{Latest: 3, MinDecryption: 3, MinAvailable: 2}, 3)
}

// TestCreatePepper checks that a pepper is created once, and that no value is ever replaced.
func TestCreatePepper(t *testing.T) {
	t.Parallel()
	a := newArchivist(t)
	mine, other := config.NewPepper(), config.NewPepper()
	entry, taken, destroyed := config.NewPepperEntry(), config.NewPepperEntry(), config.NewPepperEntry()
	path := func(kind, entry string) string { return "secret/" + kind + "/" + a.key.Config.KVPath + "/" + entry }
	for _, name := range []string{taken, destroyed} {
		a.write(t, path("data", name), map[string]any{"data": map[string]any{"currentID": other.CurrentID, "peppers": other.Peppers}})
	}
	a.write(t, path("destroy", destroyed), map[string]any{"versions": []int{1}})
	for _, tc := range []struct {
		name, entry string
		want        error
	}{
		{"created", entry, nil},
		{"repeated, as after a lost answer", entry, nil},
		{"another value", taken, ErrExists},
		{"a destroyed value", destroyed, ErrDenied},
		{"the fixed name", config.PepperLeaf, ErrDenied},
	} {
		if err := a.CreatePepper(t.Context(), tc.entry, mine); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		} else if err != nil && strings.Contains(err.Error(), mine.Peppers[mine.CurrentID]) {
			t.Errorf("%s: the error shows the pepper", tc.name)
		}
	}
	if _, err := a.PepperAt(t.Context(), destroyed); !errors.Is(err, ErrNotFound) {
		t.Errorf("a destroyed value: %v, want ErrNotFound", err)
	}
	for name, want := range map[string]*config.Pepper{entry: mine, taken: other} {
		got, err := a.PepperAt(t.Context(), name)
		if err != nil || !samePepper(got, want) {
			t.Errorf("%s: another pepper, or error %v", name, err)
		}
		mineDigest, errMine := want.Digest()
		gotDigest, errGot := got.Digest()
		if errors.Join(errMine, errGot) != nil || mineDigest != gotDigest {
			t.Errorf("%s: digest %s, want %s", name, gotDigest, mineDigest)
		}
	}
	for _, name := range []string{"session-keys", "../pepper", "pepper-x", ""} {
		if err := a.CreatePepper(t.Context(), name, mine); err == nil {
			t.Errorf("%q: created", name)
		}
		if _, err := a.PepperAt(t.Context(), name); err == nil {
			t.Errorf("%q: read", name)
		}
	}
}
