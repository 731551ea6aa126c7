package vaultadmin

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestRecordDatabase checks that the rest of the marker is kept, and that nothing is recorded if
// the previous state is another one.
func TestRecordDatabase(t *testing.T) {
	d := Deployment{Directory: "dir", UID: ownUID}
	f := &fakeVault{}
	client := f.startEarlier(t)
	for _, tc := range []struct {
		step          string
		before, after DatabaseState
		want          DatabaseState
	}{
		{step: "the first pod is ready", before: DatabaseState{}, after: DatabaseState{Claimed: true}, want: DatabaseState{Claimed: true}},
		{step: "an operator that was stopped before", before: DatabaseState{}, after: DatabaseState{Accepted: 1}, want: DatabaseState{Claimed: true}},
		{step: "an empty database is accepted", before: DatabaseState{Claimed: true}, after: DatabaseState{Accepted: 1}, want: DatabaseState{Accepted: 1}},
	} {
		if err := client.RecordDatabase(t.Context(), d, tc.before, tc.after); err != nil {
			t.Fatalf("%s: %v", tc.step, err)
		}
		if marker := f.marker(t); databaseState(marker) != tc.want || marker.UID != ownUID || marker.DeploymentID != ownUID {
			t.Errorf("%s: %+v; want %+v", tc.step, marker, tc.want)
		}
	}
	before := f.marker(t)
	if err := client.RecordDatabase(t.Context(), d, DatabaseState{Accepted: 1}, DatabaseState{Accepted: config.MaxEmptyDatabases + 1}); err == nil || !reflect.DeepEqual(f.marker(t), before) {
		t.Errorf("a marker that could not be read back: %v, %+v", err, f.marker(t))
	}
	other := d
	other.UID = anotherUID
	if err := client.RecordDatabase(t.Context(), other, DatabaseState{Accepted: 1}, DatabaseState{}); ProblemOf(err) != Taken {
		t.Errorf("another object's marker: %v", err)
	}
}

// TestAdoptedIsClaimed checks that adopted keys have a claimed database, also if an earlier release
// recorded nothing, and that an object's own marker is claimed only once a pod was ready.
func TestAdoptedIsClaimed(t *testing.T) {
	for name, tc := range map[string]struct {
		d    Deployment
		want bool
	}{
		"adopted":                        {d: Deployment{Directory: "dir", UID: newUID, NamespaceUID: nsUID, AdoptOf: ownUID}, want: true},
		"its own, of the release before": {d: Deployment{Directory: "dir", UID: ownUID, NamespaceUID: nsUID, DeploymentID: ownUID}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			if _, err := f.startEarlier(t).ensureMarker(t.Context(), tc.d); err != nil {
				t.Fatal(err)
			}
			stored := f.marker(t)
			if stored.Claimed != tc.want || stored.UID != tc.d.UID || stored.DeploymentID != ownUID || stored.NamespaceUID != nsUID {
				t.Errorf("stored %+v, want claimed %t and UID %s of this deployment", stored, tc.want, tc.d.UID)
			}
		})
	}
}

// TestClaimedIsComplete loses the object's status and a key. A master key or a pepper is not
// recreated for a deployment that has a database, and the marker counts only for an object that
// asks to adopt.
func TestClaimedIsComplete(t *testing.T) {
	for name, tc := range map[string]struct {
		lose, adoptOf string
		want          Problem
		says          string
	}{
		"nothing is asked for":      {lose: "key", want: Retained, says: "restore its status, or set spec.adoptRetainedKey to true"},
		"the master key is missing": {lose: "key", adoptOf: ownUID, want: Missing, says: "Transit key"},
		"the pepper is missing":     {lose: "dir/pepper", adoptOf: ownUID, want: Missing, says: "pepper"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{}
			client := f.startEarlier(t)
			f.entries["dir/marker"][0].data = json.RawMessage(`{"uid":"` + ownUID + `","deploymentID":"` + ownUID + `","claimed":true}`)
			delete(f.keys, tc.lose)
			delete(f.entries, tc.lose)
			d := f.deployment(ownUID, false)
			d.AdoptOf = tc.adoptOf
			_, err := client.Ensure(t.Context(), d)
			if ProblemOf(err) != tc.want || !strings.Contains(err.Error(), tc.says) || f.writes != 0 {
				t.Errorf("%v, after %d writes", err, f.writes)
			}
		})
	}
}

// TestRecordRestored checks that the rest of the marker is kept, that a repeated call writes
// nothing, and that another object's marker is left alone.
func TestRecordRestored(t *testing.T) {
	d := Deployment{Directory: "dir", UID: ownUID}
	f := &fakeVault{}
	client := f.startEarlier(t)
	want := f.marker(t)
	want.DeploymentID, want.Claimed = anotherUID, true
	if err := client.RecordRestored(t.Context(), d, anotherUID, nil); err != nil || !reflect.DeepEqual(f.marker(t), want) {
		t.Fatalf("%v, %+v; want %+v", err, f.marker(t), want)
	}
	pepper := &Secret{Entry: config.NewPepperEntry(), Digest: strings.Repeat("a", 64)}
	want.Pepper, want.PepperDigest = pepper.Entry, pepper.Digest
	if err := client.RecordRestored(t.Context(), d, anotherUID, pepper); err != nil || !reflect.DeepEqual(f.marker(t), want) {
		t.Fatalf("%v, %+v; want %+v", err, f.marker(t), want)
	}
	writes := f.writes
	if err := client.RecordRestored(t.Context(), d, anotherUID, pepper); err != nil || f.writes != writes {
		t.Errorf("a repeated call: %v, %d writes", err, f.writes-writes)
	}
	if err := client.RecordRestored(t.Context(), d, "not a UID", nil); err == nil || f.writes != writes {
		t.Errorf("a deployment that is none: %v, %d writes", err, f.writes-writes)
	}
	d.UID = anotherUID
	if err := client.RecordRestored(t.Context(), d, ownUID, nil); ProblemOf(err) != Taken || f.writes != writes {
		t.Errorf("another object's marker: %v, %d writes", err, f.writes-writes)
	}
}
