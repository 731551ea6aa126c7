package vaultadmin

import (
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// keptVault returns a Vault with one SecureNotes, shop/notes of the cluster id prod. Its marker was
// created at 09:00:00, between the first and the second version of its key.
func keptVault(versions map[string]any) *setupVault {
	directory := config.KVPath("prod", "shop", "notes")
	fake := &setupVault{data: map[string]map[string]any{
		"secret/metadata/" + directory + "/marker": {
			"current_version": 1, "oldest_version": 0, "created_time": "2026-01-01T10:00:00Z",
		},
		"secret/data/" + directory + "/marker": {
			"data": map[string]any{"uid": ownUID, "namespaceUID": nsUID, "clusterUID": ownClusterUID, "deploymentID": ownUID},
		},
	}}
	if versions != nil {
		fake.data["transit/keys/"+config.TransitKeyName("prod", "shop", "notes")] = map[string]any{"keys": versions}
		fake.data["transit/keys/"+config.AuditKeyName("prod", "shop", "notes")] = map[string]any{"keys": map[string]any{"1": "x"}}
		fake.data["transit/keys/"+config.BackupKeyName("prod", "shop", "notes")] = map[string]any{"keys": map[string]any{"1": "x"}}
	}
	return fake
}

// TestAgeOfMarker checks that a marker is trusted only if the first version of the key shows that
// the marker is older. Anyone with the operator's Vault token can rotate the key and raise
// min_decryption_version, so that Vault lists only newer versions.
func TestAgeOfMarker(t *testing.T) {
	const before, after = 1767258000, 1767265200 // 09:00:00 and 11:00:00
	for name, tc := range map[string]struct {
		versions map[string]any
		want     bool
	}{
		"older than the key":                   {versions: map[string]any{"1": after}, want: false},
		"newer than the key":                   {versions: map[string]any{"1": before, "2": after}, want: true},
		"first version is no longer listed":    {versions: map[string]any{"2": after}, want: true},
		"no version is listed":                 {versions: map[string]any{}, want: true},
		"older than the first of two versions": {versions: map[string]any{"1": after, "2": after + 1}, want: false},
		"no key, as of an interrupted shred":   {versions: nil, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive := Archive{Client: keptVault(tc.versions).client(t), ClusterID: "prod", TransitMount: "transit", KVMount: "secret"}
			kept, err := archive.Read(t.Context(), "shop", "notes")
			if err != nil || kept.Marker.UID != ownUID || kept.Changed != tc.want {
				t.Errorf("got %+v and error %v, want changed %t", kept, err, tc.want)
			}
		})
	}
}

// TestShredWithoutMarkerCanBeRepeated checks that a shred of keys without a marker can be repeated
// after any interruption until nothing is left. Then only the master key shows that there is
// something to destroy.
func TestShredWithoutMarkerCanBeRepeated(t *testing.T) {
	for at := range 7 {
		fake := keptVault(map[string]any{"1": 1767258000})
		directory := config.KVPath("prod", "shop", "notes")
		delete(fake.data, "secret/metadata/"+directory+"/marker")
		delete(fake.data, "secret/data/"+directory+"/marker")
		for _, leaf := range []string{config.PepperLeaf, config.SessionKeysLeaf + "-a"} {
			fake.data["secret/metadata/"+directory+"/"+leaf] = map[string]any{"current_version": 1}
		}
		fake.deletions = at
		archive := Archive{Client: fake.client(t), ClusterID: "prod", TransitMount: "transit", KVMount: "secret"}
		shred := func() error {
			kept, err := archive.Read(t.Context(), "shop", "notes")
			if err != nil || !kept.NoMarker {
				t.Fatalf("%+v, %v", kept, err)
			}
			return archive.Shred(t.Context(), kept)
		}
		err := shred()
		if (err != nil) != (at > 0) {
			t.Fatalf("deletion %d fails: %v", at, err)
		}
		if err != nil {
			err = shred()
		}
		if err != nil || len(fake.data) > 0 {
			t.Errorf("repeated after deletion %d: %v; left is %v", at, err, fake.data)
		}
	}
}
