package vaultadmin

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// ensure runs Ensure, and again if the first run crashes at the failing write.
func ensure(t *testing.T, f *fakeVault, client *Client, uid string) DeploymentState {
	t.Helper()
	for {
		state, err := client.Ensure(t.Context(), f.deployment(uid, false))
		f.mustNameAll(t)
		if err == nil {
			return state
		}
		if f.writes != f.at {
			t.Fatal(err)
		}
	}
}

// TestSetUpCrashAnywhere fails each write of a first set-up in turn, to Vault and to the status,
// before and after it takes effect. In the end, Vault has what is recorded, and Shred leaves
// nothing.
func TestSetUpCrashAnywhere(t *testing.T) {
	setUp := func(t *testing.T, f *fakeVault) *Client {
		client := f.start(t)
		if state := ensure(t, f, client, ownUID); state.Secrets != f.status || state.DeploymentID != ownUID {
			t.Errorf("%+v, recorded %+v", state, f.status)
		}
		f.mustHoldRecorded(t)
		return client
	}
	whole := &fakeVault{}
	setUp(t, whole)
	if whole.writes < 9 {
		t.Fatalf("a set-up has only %d writes", whole.writes)
	}
	for at := 1; at <= whole.writes; at++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, went through %t", at, after), func(t *testing.T) {
				f := &fakeVault{at: at, after: after}
				client := setUp(t, f)
				writes := f.writes
				if state, err := client.Ensure(t.Context(), f.deployment(ownUID, true)); err != nil || state.Secrets != f.status || f.writes != writes {
					t.Errorf("established: %+v, %v, %d more writes", state, err, f.writes-writes)
				}
				if err := client.Shred(t.Context(), f.deployment(ownUID, true)); err != nil {
					t.Fatal(err)
				}
				if left := f.usable(); len(left) > 0 || len(f.keys) > 0 {
					t.Errorf("left after Shred: %v, %v", left, f.keys)
				}
				// The next object of that name finds what is left of this one.
				f.status = Secrets{}
				ensure(t, f, client, anotherUID)
				f.mustHoldRecorded(t)
				if !strings.HasPrefix(f.status.Pepper.Entry, "pepper-") {
					t.Errorf("the pepper is %s", f.status.Pepper.Entry)
				}
			})
		}
	}
}

// TestPlantedPepper checks that a pepper that exists before the object's first record is an error,
// and that one that appears at the moment of the creation is skipped.
func TestPlantedPepper(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		for name, deleted := range map[string]bool{"live": false, "deleted, and could be restored": true} {
			f := &fakeVault{}
			client := f.start(t)
			f.plant("pepper")
			f.entries["dir/pepper"][0].deleted = deleted
			_, err := client.Ensure(t.Context(), f.deployment(ownUID, false))
			if ProblemOf(err) != Unsuitable || !strings.Contains(err.Error(), "vault kv metadata delete -mount=secret dir/pepper") {
				t.Errorf("%s: %v", name, err)
			}
			if f.status != (Secrets{}) {
				t.Errorf("%s: recorded %+v", name, f.status)
			}
		}
	})
	t.Run("named in the marker", func(t *testing.T) {
		f := &fakeVault{}
		client := f.start(t)
		if _, err := client.Ensure(t.Context(), f.deployment(ownUID, false)); err != nil {
			t.Fatal(err)
		}
		// The status is lost. The marker alone proves nothing, because others can write it.
		f.status = Secrets{}
		if _, err := client.Ensure(t.Context(), f.deployment(ownUID, false)); ProblemOf(err) != Unsuitable {
			t.Errorf("error %v, want %s", err, Unsuitable)
		}
	})
	t.Run("at the moment of the create", func(t *testing.T) {
		f := &fakeVault{}
		client := f.start(t)
		f.beforeWrite = func(entry string) {
			if entry == "dir/pepper" {
				f.plant("pepper")
			}
		}
		if _, err := client.Ensure(t.Context(), f.deployment(ownUID, false)); err != nil {
			t.Fatal(err)
		}
		f.mustHoldRecorded(t)
	})
}

// TestPlantedSessionKeys checks that entries that exist before, or appear at the moment of the
// creation, are skipped.
func TestPlantedSessionKeys(t *testing.T) {
	for name, established := range map[string]bool{"first set-up": false, "Compromise": true} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			var client *Client
			if established {
				client = f.startEarlier(t)
			} else {
				client = f.start(t)
				f.plant("session-keys")
			}
			for version := range 9 {
				f.plant(fmt.Sprintf("session-keys-%d", version+1))
			}
			var raced []string
			f.beforeWrite = func(entry string) {
				if leaf := strings.TrimPrefix(entry, "dir/"); len(raced) < 2 && config.IsSessionKeysEntry(leaf) {
					raced = append(raced, leaf)
					f.plant(leaf)
				}
			}
			var err error
			if established {
				err = client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 2)
			} else {
				_, err = client.Ensure(t.Context(), f.deployment(ownUID, false))
			}
			if err != nil || len(raced) != 2 || slices.Contains(raced, f.status.SessionKeys.Entry) {
				t.Fatalf("%v; %v were planted, %+v is in use", err, raced, f.status)
			}
			f.mustHold(t, f.status.SessionKeys, &config.SessionKeys{})
			f.mustNameAllButPlanted(t)
			if !established {
				return
			}
			if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), ""); err != nil {
				t.Fatal(err)
			}
			for _, leaf := range append(raced, "session-keys") {
				if slices.Contains(f.usable(), leaf) {
					t.Errorf("%s is still there", leaf)
				}
			}
		})
	}
}

func (f *fakeVault) mustNameAllButPlanted(t *testing.T) {
	t.Helper()
	if marker := f.marker(t); !slices.Contains(sessionKeysEntries(marker), f.status.SessionKeys.Entry) {
		t.Errorf("the marker %+v does not name %s", marker, f.status.SessionKeys.Entry)
	}
}

// TestEarlierRelease checks that the state of an earlier release is kept without a write. Its fixed
// names count as recorded, with unknown digests. Its rights do not include the backup key.
func TestEarlierRelease(t *testing.T) {
	f := &fakeVault{denied: "transit/keys/backup"}
	client := f.startEarlier(t)
	state, err := client.Ensure(t.Context(), f.deployment(ownUID, true))
	if err != nil || state.Secrets != (Secrets{}) || state.DeploymentID != ownUID || f.writes != 0 {
		t.Errorf("got %+v and error %v after %d writes, want no secrets and no write", state, err, f.writes)
	}
	// A Compromise that it started ends with its name.
	f.plant("session-keys-3")
	f.status.SessionKeys.Entry = "session-keys-3"
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 3); err != nil || f.writes != 0 {
		t.Errorf("error %v after %d writes, want none of either", err, f.writes)
	}
	if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), ""); err != nil {
		t.Error(err)
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper session-keys-3" || f.status.SessionKeys != (Secret{Entry: "session-keys-3"}) {
		t.Errorf("Vault has %s, recorded %+v", got, f.status)
	}
	for leaf := range map[string]bool{"pepper": true, "session-keys-3": true} {
		f.entries["dir/"+leaf][0].destroyed = true
		if _, err := client.Ensure(t.Context(), f.deployment(ownUID, true)); ProblemOf(err) != Missing || !strings.Contains(err.Error(), leaf) {
			t.Errorf("%s was destroyed: %v", leaf, err)
		}
		f.entries["dir/"+leaf][0].destroyed = false
	}
}

// TestReplacedAuditKeyIsTold checks that the replacement of the audit key is reported, however
// often another step fails first.
func TestReplacedAuditKeyIsTold(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	delete(f.keys, "audit")
	f.entries["dir/pepper"][0].destroyed = true
	if _, err := client.Ensure(t.Context(), f.deployment(ownUID, true)); ProblemOf(err) != Missing {
		t.Fatal(err)
	}
	f.entries["dir/pepper"][0].destroyed = false
	if state, err := client.Ensure(t.Context(), f.deployment(ownUID, true)); err != nil || !state.AuditKeyReplaced {
		t.Errorf("reported %v, %v", state.AuditKeyReplaced, err)
	}
	if state, err := client.Ensure(t.Context(), f.deployment(ownUID, true)); err != nil || state.AuditKeyReplaced {
		t.Errorf("reported again: %v, %v", state.AuditKeyReplaced, err)
	}
}

// TestMarkerProvesNothing checks that the operator does not adopt session keys that only the marker
// names, because anyone with the operator's Vault token can write the marker. So a Compromise that
// an earlier release started creates other session keys.
func TestMarkerProvesNothing(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	f.plant("session-keys-3")
	f.entries["dir/marker"][0].data = []byte(`{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","sessionKeys":"session-keys-3","otherSessionKeys":["session-keys"]}`)
	if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 3); err != nil {
		t.Fatal(err)
	}
	f.mustHold(t, f.status.SessionKeys, &config.SessionKeys{})
	if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), ""); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.usable(), " "); got != "marker pepper "+f.status.SessionKeys.Entry {
		t.Errorf("Vault has %s", got)
	}
}

// TestAdoptedSecrets checks that an object that adopts a key uses the pepper in the marker, and
// session keys of its own.
func TestAdoptedSecrets(t *testing.T) {
	t.Run("of this release", func(t *testing.T) {
		f := &fakeVault{}
		client := f.start(t)
		ensure(t, f, client, ownUID)
		before := f.status
		f.status = Secrets{}
		state := ensure(t, f, client, anotherUID)
		f.mustHoldRecorded(t)
		if state.DeploymentID != ownUID || f.status.Pepper != before.Pepper || f.status.SessionKeys == before.SessionKeys {
			t.Errorf("%+v, recorded %+v, before %+v", state, f.status, before)
		}
	})
	t.Run("of an earlier release", func(t *testing.T) {
		f := &fakeVault{}
		client := f.startEarlier(t)
		ensure(t, f, client, anotherUID)
		f.mustHold(t, f.status.SessionKeys, &config.SessionKeys{})
		if f.status.Pepper != (Secret{}) {
			t.Errorf("recorded %+v, want no pepper", f.status)
		}
	})
	t.Run("without a word of the object's own", func(t *testing.T) {
		f := &fakeVault{}
		client := f.startEarlier(t)
		f.entries["dir/marker"][0].data = []byte(`{"uid":"` + anotherUID + `","deploymentID":"` + ownUID + `","pepper":"pepper-aaaaaaaaaaaaaaaa","pepperDigest":"` + strings.Repeat("0", 64) + `"}`)
		f.plant("pepper-aaaaaaaaaaaaaaaa")
		d := f.deployment(anotherUID, false)
		d.AdoptOf = ""
		if _, err := client.Ensure(t.Context(), d); ProblemOf(err) != Retained || f.status != (Secrets{}) {
			t.Errorf("%v, recorded %+v", err, f.status)
		}
	})
	t.Run("of a marker that was forged", func(t *testing.T) {
		f := &fakeVault{}
		client := f.startEarlier(t)
		f.entries["dir/marker"][0].data = []byte(`{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","pepper":"../../other/pepper","pepperDigest":""}`)
		if _, err := client.Ensure(t.Context(), f.deployment(anotherUID, false)); ProblemOf(err) != Unsuitable {
			t.Error(err)
		}
	})
}

// TestPoliciesOfBoth checks that values are deleted under the policies of an earlier release, and
// destroyed under those of this one, where nobody with the operator's rights can create a pepper in
// their place.
func TestPoliciesOfBoth(t *testing.T) {
	for _, older := range []bool{true, false} {
		t.Run(fmt.Sprintf("older: %t", older), func(t *testing.T) {
			f := &fakeVault{olderPolicies: older}
			client := f.startEarlier(t)
			if err := client.ReplaceSessionKeys(t.Context(), f.deployment(ownUID, true), 2); err != nil {
				t.Fatal(err)
			}
			if err := client.DeleteOtherSessionKeys(t.Context(), f.deployment(ownUID, true), ""); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(f.usable(), " "); got != "marker pepper "+f.status.SessionKeys.Entry {
				t.Errorf("Vault has %s", got)
			}
			if err := client.Shred(t.Context(), f.deployment(ownUID, true)); err != nil {
				t.Fatal(err)
			}
			if left := f.usable(); len(left) > 0 || len(f.keys) > 0 {
				t.Errorf("left: %v %v", left, f.keys)
			}
			err := client.writeKV(t.Context(), "dir", "pepper", map[string]string{"a": "planted"}, 0)
			if older != (err == nil) {
				t.Errorf("another pepper in place of the destroyed one: %v", err)
			}
		})
	}
}
