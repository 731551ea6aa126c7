package vaultadmin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// knownVersions returns what a status records of the backup key in Vault.
func (f *fakeVault) knownVersions(t *testing.T, client *Client) []config.BackupKey {
	t.Helper()
	keys, _, err := client.readBackupKey(t.Context(), "backup")
	if err != nil {
		t.Fatal(err)
	}
	return keys.Versions
}

// TestBackupKey checks that the backup key is created once, is never recreated after it was seen,
// and that nothing else fails without it.
func TestBackupKey(t *testing.T) {
	for name, tc := range map[string]struct {
		// known reports that the status records the key before change.
		known  bool
		change func(*fakeVault)
		want   Problem
		says   string
		// versions of the state; writes by Ensure.
		versions, writes int
	}{
		"of an earlier release, none":  {change: func(f *fakeVault) { delete(f.keys, "backup") }, versions: 1, writes: 1},
		"exists":                       {known: true, change: func(*fakeVault) {}, versions: 1},
		"exists, with a lost status":   {change: func(*fakeVault) {}, versions: 1},
		"has another version":          {known: true, change: func(f *fakeVault) { rotate(f.keys["backup"]) }, versions: 2},
		"denied":                       {change: func(f *fakeVault) { delete(f.keys, "backup"); f.denied = "transit/keys/backup" }, want: SetupMissing, says: "the signing of backups needs"},
		"known, and now denied":        {known: true, change: func(f *fakeVault) { f.denied = "transit/keys/backup" }, want: SetupMissing, says: "the signing of backups needs"},
		"lost":                         {known: true, change: func(f *fakeVault) { delete(f.keys, "backup") }, want: Missing, says: "the Transit key backup is not in Vault"},
		"lost, and another one":        {known: true, change: func(f *fakeVault) { f.keys["backup"] = transitKey("ed25519") }, want: Unsuitable, says: "another one than before"},
		"lost a version":               {known: true, change: func(f *fakeVault) { f.keys["backup"]["keys"] = map[string]any{"2": signingVersion()} }, want: Missing, says: "no version 1 any more"},
		"can be exported":              {change: func(f *fakeVault) { f.keys["backup"]["exportable"] = true }, want: Unsuitable, says: "exportable=true"},
		"is of a type for encryption":  {change: func(f *fakeVault) { f.keys["backup"] = transitKey("aes256-gcm96") }, want: Unsuitable, says: "type=aes256-gcm96"},
		"has no public key":            {change: func(f *fakeVault) { f.keys["backup"]["keys"] = map[string]any{"1": map[string]any{"public_key": ""}} }, want: Unsuitable, says: "not an Ed25519 key"},
		"has another form of versions": {change: func(f *fakeVault) { f.keys["backup"]["keys"] = "x" }, want: Unsuitable, says: "no versions"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.startEarlier(t)
			f.keys["backup"] = transitKey("ed25519")
			d := f.deployment(ownUID, true)
			if tc.known {
				d.BackupKeys = f.knownVersions(t, client)
			}
			tc.change(f)
			state, err := client.Ensure(t.Context(), d)
			if err != nil || state.DeploymentID != ownUID {
				t.Fatalf("got %+v and error %v, want the deployment", state, err)
			}
			got := state.BackupKey
			if tc.want != "" {
				if got.Keys != nil || got.Problem == nil || ProblemOf(got.Problem) != tc.want || !strings.Contains(got.Problem.Error(), tc.says) {
					t.Errorf("got %+v, want no keys and %s with %q", got, tc.want, tc.says)
				}
			} else if got.Problem != nil || got.Keys == nil || got.Keys.Key != "backup" || len(got.Keys.Versions) != tc.versions {
				t.Errorf("got %+v, want %d versions", got, tc.versions)
			}
			if OfFeature(got.Problem) != (tc.want == SetupMissing) {
				t.Errorf("%v is of a feature: %t", got.Problem, OfFeature(got.Problem))
			}
			if f.writes != tc.writes {
				t.Errorf("%d writes, want %d", f.writes, tc.writes)
			}
		})
	}
}

// TestDeniedBackupKeyIsRemembered checks that a missing right costs a request in a while, not one
// for each object, and that a right that is granted is used.
func TestDeniedBackupKeyIsRemembered(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	f := &fakeVault{denied: "transit/keys/backup", now: func() time.Time { return at }}
	client := f.startEarlier(t)
	ensure := func(requests int, want Problem) {
		t.Helper()
		f.requests = nil
		state, err := client.Ensure(t.Context(), f.deployment(ownUID, true))
		if err != nil {
			t.Fatal(err)
		}
		if got := state.BackupKey.Problem; want != "" && ProblemOf(got) != want || want == "" && got != nil {
			t.Errorf("got %v, want %q", got, want)
		}
		got := 0
		for _, path := range f.requests {
			if strings.HasPrefix(path, "transit/keys/backup") {
				got++
			}
		}
		if got != requests {
			t.Errorf("%d requests for the key, want %d: %v", got, requests, f.requests)
		}
	}
	ensure(1, SetupMissing)
	ensure(0, SetupMissing)
	f.denied = ""
	ensure(0, SetupMissing)
	at = at.Add(denialPause)
	ensure(3, "") // read, create, read
	ensure(1, "")
}

// TestReplaceBackupKey crashes before and after each write. In every case the key has one more
// version in the end, which alone signs.
func TestReplaceBackupKey(t *testing.T) {
	const writes = 2
	for at := range writes + 2 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after %t", at, after), func(t *testing.T) {
				f := &fakeVault{at: at, after: after}
				client := f.startEarlier(t)
				f.keys["backup"] = transitKey("ed25519")
				first := f.knownVersions(t, client)[0]
				d := f.deployment(ownUID, true)
				latest, err := client.ReplaceBackupKey(t.Context(), d, 1)
				if crashed := at > 0 && at <= writes; (err != nil) != crashed {
					t.Fatalf("error %v, want one: %t", err, crashed)
				}
				if err != nil {
					latest, err = client.ReplaceBackupKey(t.Context(), d, 1)
				}
				if err != nil || latest != 2 {
					t.Fatalf("latest version %d, %v", latest, err)
				}
				keys, oldest, err := client.readBackupKey(t.Context(), "backup")
				if err != nil || len(keys.Versions) != 2 || oldest != 2 {
					t.Fatalf("got %+v, signing from version %d, %v; want 2 versions and the newest to sign", keys, oldest, err)
				}
				if keys.Versions[0].Until == nil || !keys.Versions[0].Until.Equal(keys.Versions[1].Since) || !slices.Equal(keys.Versions[0].PublicKey, first.PublicKey) {
					t.Errorf("the first version is %+v, want it to end when the second begins", keys.Versions[0])
				}
				done := f.writes
				if latest, err := client.ReplaceBackupKey(t.Context(), d, 1); err != nil || latest != 2 || f.writes != done {
					t.Errorf("repeated: version %d, %v, %d writes", latest, err, f.writes-done)
				}
			})
		}
	}
}

// TestBackupKeyIsNotReplaced checks the errors of a replacement that cannot be done.
func TestBackupKeyIsNotReplaced(t *testing.T) {
	for name, tc := range map[string]struct {
		from   int64
		change func(*fakeVault)
		want   Problem
	}{
		"denied at all":            {from: 1, change: func(f *fakeVault) { f.denied = "transit/keys/backup" }, want: SetupMissing},
		"no right to rotate":       {from: 1, change: func(f *fakeVault) { f.denied = "transit/keys/backup/rotate" }, want: SetupMissing},
		"no right to configure":    {from: 1, change: func(f *fakeVault) { f.denied = "transit/keys/backup/config" }, want: SetupMissing},
		"no key":                   {from: 1, change: func(f *fakeVault) { delete(f.keys, "backup") }, want: Missing},
		"fewer versions than were": {from: 2, change: func(*fakeVault) {}, want: Missing},
		"another type":             {from: 1, change: func(f *fakeVault) { f.keys["backup"] = transitKey("aes256-gcm96") }, want: Unsuitable},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.startEarlier(t)
			f.keys["backup"] = transitKey("ed25519")
			tc.change(f)
			_, err := client.ReplaceBackupKey(t.Context(), f.deployment(ownUID, true), tc.from)
			if err == nil || ProblemOf(err) != tc.want || OfFeature(err) != (tc.want == SetupMissing) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
}

// TestShredDestroysTheBackupKey checks that deletionPolicy Delete destroys the backup key, and that
// the rights of an earlier release, with which there is none, suffice for the rest.
func TestShredDestroysTheBackupKey(t *testing.T) {
	for name, denied := range map[string]string{"with the right": "", "with the rights of an earlier release": "transit/keys/backup"} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{denied: denied}
			client := f.startEarlier(t)
			if denied == "" {
				f.keys["backup"] = transitKey("ed25519")
			}
			if err := client.Shred(t.Context(), f.deployment(ownUID, true)); err != nil {
				t.Fatal(err)
			}
			if left := f.usable(); len(left) > 0 || len(f.keys) > 0 {
				t.Errorf("left: %v %v", left, f.keys)
			}
		})
	}
}
