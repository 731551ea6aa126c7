package vaultadmin

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAdoption checks who may adopt the keys of the object old, whose namespace had the UID ns.
func TestAdoption(t *testing.T) {
	const (
		marker  = `{"uid":"` + oldUID + `","namespaceUID":"` + nsUID + `","deploymentID":"` + firstUID + `"}`
		earlier = `{"uid":"` + oldUID + `","deploymentID":"` + firstUID + `"}`
	)
	for name, tc := range map[string]struct {
		marker string
		d      Deployment
		want   Problem
		// says must be in the message, silent must not.
		says, silent string
	}{
		"nothing is asked for":                {marker: marker, d: Deployment{NamespaceUID: nsUID}, want: Retained, says: oldUID, silent: "adoptRetainedKeyOf"},
		"in the same namespace":               {marker: marker, d: Deployment{NamespaceUID: nsUID, Adopt: true}, want: ""},
		"in a recreated namespace":            {marker: marker, d: Deployment{NamespaceUID: ns2UID, Adopt: true}, want: Retained, says: "spec.adoptRetainedKeyOf", silent: oldUID},
		"in a namespace that is not known":    {marker: marker, d: Deployment{Adopt: true}, want: Retained, says: "spec.adoptRetainedKeyOf", silent: oldUID},
		"of an earlier release":               {marker: earlier, d: Deployment{NamespaceUID: nsUID, Adopt: true}, want: Retained, says: "spec.adoptRetainedKeyOf", silent: oldUID},
		"by UID, across namespaces":           {marker: marker, d: Deployment{NamespaceUID: ns2UID, AdoptOf: oldUID}, want: ""},
		"by UID, of an earlier release":       {marker: earlier, d: Deployment{NamespaceUID: nsUID, AdoptOf: oldUID}, want: ""},
		"by another UID":                      {marker: marker, d: Deployment{NamespaceUID: nsUID, AdoptOf: otherUID}, want: Retained, says: otherUID, silent: oldUID},
		"by another UID, whatever else is so": {marker: marker, d: Deployment{NamespaceUID: nsUID, AdoptOf: otherUID, Adopt: true}, want: Retained, says: otherUID, silent: oldUID},
		"established":                         {marker: marker, d: Deployment{NamespaceUID: nsUID, DeploymentID: firstUID, Adopt: true}, want: Taken, says: oldUID},
		"established, in another namespace":   {marker: marker, d: Deployment{NamespaceUID: ns2UID, DeploymentID: firstUID}, want: Taken, says: "another SecureNotes", silent: oldUID},
		"established, by UID":                 {marker: marker, d: Deployment{NamespaceUID: nsUID, DeploymentID: firstUID, AdoptOf: oldUID}, want: Taken, says: oldUID},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.startEarlier(t)
			f.entries["dir/marker"][0].data = json.RawMessage(tc.marker)
			tc.d.Directory, tc.d.Key, tc.d.UID = "dir", "key", newUID
			got, err := client.ensureMarker(t.Context(), tc.d)
			if tc.want == "" {
				if err != nil || got.UID != newUID || got.NamespaceUID != tc.d.NamespaceUID || got.DeploymentID != firstUID {
					t.Fatalf("%+v, %v", got, err)
				}
				// It works only once: the old object, which still exists elsewhere, has lost its
				// keys.
				old := Deployment{Directory: "dir", Key: "key", UID: oldUID, NamespaceUID: nsUID, DeploymentID: firstUID, Adopt: true}
				if _, err := client.ensureMarker(t.Context(), old); ProblemOf(err) != Taken {
					t.Errorf("the old object: %v, want %s", err, Taken)
				}
				return
			}
			if ProblemOf(err) != tc.want || !strings.Contains(err.Error(), tc.says) || (tc.silent != "" && strings.Contains(err.Error(), tc.silent)) {
				t.Errorf("error %v, want %s with %q and without %q", err, tc.want, tc.says, tc.silent)
			}
			if f.writes != 0 {
				t.Errorf("%d writes", f.writes)
			}
		})
	}
}

// TestMarkerOfAnEarlierRelease checks that the namespace's UID is added, and that nothing else
// changes.
func TestMarkerOfAnEarlierRelease(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	f.entries["dir/marker"][0].data = json.RawMessage(`{"uid":"` + ownUID + `","deploymentID":"` + firstUID + `","sessionKeys":"session-keys-3"}`)
	d := Deployment{Directory: "dir", UID: ownUID, NamespaceUID: nsUID, DeploymentID: firstUID}
	for range 2 {
		if _, err := client.ensureMarker(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(f.entries["dir/marker"][1].data); got != `{"deploymentID":"`+firstUID+`","namespaceUID":"`+nsUID+`","sessionKeys":"session-keys-3","uid":"`+ownUID+`"}` || f.writes != 1 {
		t.Errorf("%s after %d writes", got, f.writes)
	}
}

// TestMarkerNamesItsCluster checks that the first marker and an adopted one name the cluster, and
// that an established object adds it to the marker of an earlier release.
func TestMarkerNamesItsCluster(t *testing.T) {
	const earlier = `{"uid":"` + ownUID + `","namespaceUID":"` + nsUID + `","deploymentID":"` + ownUID + `"}`
	for name, tc := range map[string]struct {
		marker string
		d      Deployment
		want   string
		writes int
	}{
		"first":                             {d: Deployment{UID: ownUID}, want: ownClusterUID, writes: 1},
		"adopted":                           {marker: `{"uid":"` + oldUID + `","namespaceUID":"` + nsUID + `","clusterUID":"` + lostUID + `","deploymentID":"` + oldUID + `"}`, d: Deployment{UID: ownUID, AdoptOf: oldUID}, want: ownClusterUID, writes: 1},
		"of an earlier release":             {marker: earlier, d: Deployment{UID: ownUID, DeploymentID: ownUID}, want: ownClusterUID, writes: 1},
		"of an earlier release, not set up": {marker: earlier, d: Deployment{UID: ownUID}, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.start(t)
			if tc.marker != "" {
				f.entries["dir/marker"] = []*kvVersion{{data: json.RawMessage(tc.marker)}}
			}
			tc.d.Directory, tc.d.Key, tc.d.NamespaceUID, tc.d.ClusterUID = "dir", "key", nsUID, ownClusterUID
			for range 2 {
				if _, err := client.ensureMarker(t.Context(), tc.d); err != nil {
					t.Fatal(err)
				}
			}
			if got := f.marker(t); got.ClusterUID != tc.want || got.UID != ownUID || f.writes != tc.writes {
				t.Errorf("%+v after %d writes", got, f.writes)
			}
		})
	}
}

// TestMarkerOfAnotherCluster checks that an object does not use keys that the marker gives to
// another cluster, whatever UID the marker names and whatever the object asks for.
func TestMarkerOfAnotherCluster(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	f.entries["dir/marker"][0].data = json.RawMessage(`{"uid":"` + ownUID + `","namespaceUID":"` + nsUID + `","clusterUID":"` + rebuiltUID + `","deploymentID":"` + ownUID + `"}`)
	for _, established := range []bool{true, false} {
		d := f.deployment(ownUID, established)
		d.NamespaceUID, d.ClusterUID, d.Adopt = nsUID, firstUID, true
		if _, err := client.Ensure(t.Context(), d); ProblemOf(err) != Taken || !strings.Contains(err.Error(), "of another cluster") || f.writes != 0 {
			t.Errorf("established %t: %v, %d writes", established, err, f.writes)
		}
	}
}

// TestTakenKeysAreLeftAlone checks that nothing changes a key, or the database users of its object,
// once the marker names another object or another cluster.
func TestTakenKeysAreLeftAlone(t *testing.T) {
	for name, marker := range map[string]string{
		"another object":  `{"uid":"` + ownUID + `","namespaceUID":"` + nsUID + `","clusterUID":"` + firstUID + `","deploymentID":"` + ownUID + `"}`,
		"another cluster": `{"uid":"` + deposedUID + `","namespaceUID":"` + nsUID + `","clusterUID":"` + rebuiltUID + `","deploymentID":"` + ownUID + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			testTakenKeysAreLeftAlone(t, marker)
		})
	}
}

func testTakenKeysAreLeftAlone(t *testing.T, marker string) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	f.entries["dir/marker"][0].data = json.RawMessage(marker)
	d := Deployment{Directory: "dir", Key: "key", DatabaseRole: "key", UID: deposedUID, ClusterUID: firstUID}
	for name, do := range map[string]func() error{
		"record the database": func() error {
			return client.RecordDatabase(t.Context(), d, DatabaseState{}, DatabaseState{Accepted: 1})
		},
		"rotate":               func() error { return client.Rotate(t.Context(), d) },
		"raise min_encryption": func() error { return client.RaiseMinEncryption(t.Context(), d, 2) },
		"raise min_decryption": func() error { _, err := client.RaiseMinDecryption(t.Context(), d, 2); return err },
		"trim":                 func() error { return client.Trim(t.Context(), d, 2, 2) },
		"revoke":               func() error { return client.RevokeDatabaseCredentials(t.Context(), d) },
		"replace session keys": func() error { return client.ReplaceSessionKeys(t.Context(), d, 2) },
		"replace backup key":   func() error { _, err := client.ReplaceBackupKey(t.Context(), d, 1); return err },
		"shred":                func() error { return client.Shred(t.Context(), d) },
		"delete session keys":  func() error { return client.DeleteOtherSessionKeys(t.Context(), d, "") },
	} {
		if err := do(); ProblemOf(err) != Taken {
			t.Errorf("%s: %v, want %s", name, err, Taken)
		}
	}
	if f.writes != 0 {
		t.Errorf("%d writes", f.writes)
	}
}

// TestForgedDeployment checks that an attacker who can write the marker can neither make an
// established object use another deployment's notes, nor prevent that its keys are destroyed.
func TestForgedDeployment(t *testing.T) {
	f := &fakeVault{}
	client := f.startEarlier(t)
	d := f.deployment(ownUID, true)
	f.entries["dir/marker"][0].data = json.RawMessage(`{"uid":"` + ownUID + `","namespaceUID":"` + nsUID + `","deploymentID":"` + forgedUID + `"}`)
	d.NamespaceUID, d.DeploymentID = nsUID, "first"
	if _, err := client.Ensure(t.Context(), d); ProblemOf(err) != Unsuitable || !strings.Contains(err.Error(), forgedUID) || f.writes != 0 {
		t.Errorf("another deployment: %v, %d writes", err, f.writes)
	}
	delete(f.entries, "dir/marker")
	if err := client.Shred(t.Context(), d); ProblemOf(err) != Missing || f.writes != 0 {
		t.Errorf("shred without a marker: %v, %d writes", err, f.writes)
	}
	clear(f.keys)
	if err := client.Shred(t.Context(), d); err != nil {
		t.Errorf("shred that had removed everything: %v", err)
	}
}

// TestDamagedMarker checks that an invalid marker has no effect, and that no error quotes it.
func TestDamagedMarker(t *testing.T) {
	for name, marker := range map[string]string{
		"a uid that is none":        `{"uid":"call 555-0100","deploymentID":"` + ownUID + `"}`,
		"a deployment that is none": `{"uid":"` + ownUID + `","deploymentID":"call 555-0100"}`,
		"a cluster that is none":    `{"uid":"` + ownUID + `","clusterUID":"call 555-0100","deploymentID":"` + ownUID + `"}`,
	} {
		for _, established := range []bool{true, false} {
			f := &fakeVault{}
			client := f.startEarlier(t)
			f.entries["dir/marker"][0].data = json.RawMessage(marker)
			d := f.deployment(ownUID, established)
			for step, do := range map[string]func() error{
				"ensure": func() error { _, err := client.Ensure(t.Context(), d); return err },
				"rotate": func() error { return client.Rotate(t.Context(), d) },
				"shred":  func() error { return client.Shred(t.Context(), d) },
			} {
				if err := do(); ProblemOf(err) != Unsuitable || strings.Contains(err.Error(), "555") || f.writes != 0 {
					t.Errorf("%s, %s, established %t: %v, %d writes", name, step, established, err, f.writes)
				}
			}
		}
	}
}

func TestValidateClusterID(t *testing.T) {
	for id, want := range map[string]bool{
		"11111111-1111-1111-1111-111111111111": true, "production": true, "a": true,
		"": false, "Production": false, "a.b": false, "a/b": false, "-a": false, "a-": false, "a_b": false, "audit-production": false, "backup-a": false, "audits": true, "*": false, strings.Repeat("a", 64): false,
	} {
		if err := ValidateClusterID(id); (err == nil) != want {
			t.Errorf("%q: %v", id, err)
		}
	}
}
