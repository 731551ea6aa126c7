package vaultadmin

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestSessionKeysCrashAnywhere fails each write of two replacements in turn, before and after it
// takes effect, and repeats what failed. In the end, only the recorded keys exist, with the
// recorded digest. At every moment the marker names all that exist.
func TestSessionKeysCrashAnywhere(t *testing.T) {
	replace := func(t *testing.T, f *fakeVault) {
		client := f.startEarlier(t)
		for _, version := range []int64{2, 5} {
			for _, step := range []func(Deployment) error{
				func(d Deployment) error { return client.ReplaceSessionKeys(t.Context(), d, version) },
				func(d Deployment) error { return client.DeleteOtherSessionKeys(t.Context(), d, "") },
			} {
				if err := step(f.deployment(ownUID, true)); err != nil {
					if f.writes != f.at {
						t.Fatal(err)
					}
					f.mustNameAll(t)
					if err := step(f.deployment(ownUID, true)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if got := config.SessionKeysVersion(f.status.SessionKeys.Entry); got != version {
				t.Errorf("version %d is in use, want %d", got, version)
			}
		}
	}
	whole := &fakeVault{}
	replace(t, whole)
	if whole.writes < 12 {
		t.Fatalf("two replacements have only %d writes", whole.writes)
	}
	for at := 1; at <= whole.writes; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, went through %t", at, after), func(t *testing.T) {
				f := &fakeVault{at: at, after: after}
				replace(t, f)
				f.mustHold(t, f.status.SessionKeys, &config.SessionKeys{})
				entry := f.status.SessionKeys.Entry
				if got := strings.Join(f.usable(), " "); got != "marker pepper "+entry {
					t.Errorf("Vault has %s", got)
				}
				if marker := f.marker(t); marker.SessionKeys != entry || len(marker.OtherSessionKeys) > 0 {
					t.Errorf("the marker is %+v", marker)
				}
			})
		}
	}
}

// TestSessionKeysOfAnother checks that nothing of another object is changed, and nothing before the
// keys in use are in Vault.
func TestSessionKeysOfAnother(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	elsewhere := f.deployment(ownUID, true)
	elsewhere.Directory = "elsewhere"
	lost := f.deployment(ownUID, true)
	lost.Secrets.SessionKeys.Entry = "session-keys-2"
	for name, tc := range map[string]struct {
		do   func() error
		want Problem
	}{
		"another object's": {do: func() error { return client.ReplaceSessionKeys(t.Context(), f.deployment(otherUID, true), 2) }, want: Taken},
		"nobody's":         {do: func() error { return client.ReplaceSessionKeys(t.Context(), elsewhere, 2) }, want: Missing},
		"not in Vault":     {do: func() error { return client.DeleteOtherSessionKeys(t.Context(), lost, "") }, want: Missing},
	} {
		if err := tc.do(); ProblemOf(err) != tc.want {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper session-keys" {
		t.Errorf("Vault has %s", got)
	}
}

// TestSessionKeysAreNeverOlder checks that an operator that was paused before a replacement changes
// nothing after a later replacement.
func TestSessionKeysAreNeverOlder(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 10); err != nil {
		t.Fatal(err)
	}
	before := f.writes
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 9); ProblemOf(err) != Unsuitable {
		t.Errorf("older session keys: %v, want %s", err, Unsuitable)
	}
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 10); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if f.writes != before {
		t.Errorf("%d writes", f.writes-before)
	}
}

// TestTooManySessionKeys checks that unrecorded entries do not accumulate, and that planted names
// in the marker do not block a Compromise.
func TestTooManySessionKeys(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	names := make([]string, config.MaxOtherSessionKeys)
	for i := range names {
		names[i] = fmt.Sprintf("session-keys-1%012d", i)
	}
	full, err := json.Marshal(config.Marker{UID: ownUID, DeploymentID: ownUID, OtherSessionKeys: names})
	if err != nil {
		t.Fatal(err)
	}
	f.entries["dir/marker"][0].data = full
	f.plant(names[0])
	d := f.deployment(ownUID, false)
	if err := client.createSessionKeys(t.Context(), &d, 2); ProblemOf(err) != Unsuitable || !strings.Contains(err.Error(), "otherSessionKeys") {
		t.Errorf("one more of an object that is not established: %v", err)
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper session-keys "+names[0] || f.status.SessionKeys != (Secret{}) {
		t.Errorf("Vault has %s, recorded %+v", got, f.status)
	}
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 2); err != nil {
		t.Fatal(err)
	}
	inUse := f.status.SessionKeys.Entry
	if got := strings.Join(f.usable(), " "); got != "marker pepper session-keys "+inUse || !slices.Equal(f.marker(t).OtherSessionKeys, []string{inUse}) {
		t.Errorf("Vault has %s, the marker %+v", got, f.marker(t))
	}
}

// TestForgedMarker checks that an attacker who can write the marker cannot get anything but session
// keys destroyed.
func TestForgedMarker(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	f.entries["dir/marker"][0].data = []byte(`{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","otherSessionKeys":["pepper","../other/session-keys","session-keys-9"]}`)
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 2); err != nil {
		t.Fatal(err)
	}
	if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), ""); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper "+f.status.SessionKeys.Entry {
		t.Errorf("Vault has %s", got)
	}
}

// TestStrippedMarker checks that an attacker who can write the marker cannot prevent that replaced
// session keys are destroyed.
func TestStrippedMarker(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 2); err != nil {
		t.Fatal(err)
	}
	marker := f.entries["dir/marker"]
	marker[len(marker)-1].data = []byte(`{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","sessionKeys":"` + f.status.SessionKeys.Entry + `"}`)
	if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), "session-keys"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper "+f.status.SessionKeys.Entry {
		t.Errorf("Vault has %s", got)
	}
}
