package vaultadmin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

const drillEntry = "drill-aaaaaaaaaaaaaaaa"

// TestDrillIdentity crashes before and after each write. The entry is never created before it is
// recorded, and never replaced.
func TestDrillIdentity(t *testing.T) {
	const writes = 2 // the record and the entry
	for at := range writes + 1 {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d, after %t", at, after), func(t *testing.T) {
				f := &fakeVault{at: at, after: after}
				client := f.startEarlier(t)
				recorded := []string{}
				f.beforeWrite = func(entry string) {
					if !slices.Contains(recorded, strings.TrimPrefix(entry, "dir/")) {
						t.Errorf("%s is created before it is recorded", entry)
					}
				}
				create := func(entry string) error {
					identity, _, err := config.NewDrillIdentity(false)
					if err != nil {
						t.Fatal(err)
					}
					return client.CreateDrillIdentity(t.Context(), f.deployment(ownUID, true), entry, identity, func(context.Context) error {
						f.mu.Lock()
						defer f.mu.Unlock()
						if f.strike(func() int { recorded = append(recorded, entry); return 0 }) != 0 {
							return errCrash
						}
						return nil
					})
				}
				if err := create(drillEntry); (err != nil) != (at > 0) {
					t.Fatalf("error %v", err)
				}
				const second = "drill-bbbbbbbbbbbbbbbb"
				if err := create(second); err != nil {
					t.Fatal(err)
				}
				stored := config.DrillIdentity{}
				if err := json.Unmarshal(f.entries["dir/"+second][0].data, &stored); err != nil {
					t.Fatal(err)
				}
				if _, _, err := stored.Parse(); err != nil {
					t.Error(err)
				}
				first := f.entries["dir/"+second]
				if err := create(second); ProblemOf(err) != Unsuitable || len(f.entries["dir/"+second]) != 1 || f.entries["dir/"+second][0] != first[0] {
					t.Errorf("an identity was replaced: %v", err)
				}
				d := f.deployment(ownUID, true)
				d.DrillIdentities = []string{second}
				if err := client.DestroyDrillIdentity(t.Context(), d, drillEntry); err != nil {
					t.Fatal(err)
				}
				if left := f.usable(); slices.Contains(left, drillEntry) || !slices.Contains(left, second) {
					t.Errorf("left after the first was destroyed: %v", left)
				}
				if err := client.Shred(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if left := f.usable(); len(left) > 0 {
					t.Errorf("left after shredding: %v", left)
				}
			})
		}
	}
}

// TestDrillIdentityWithoutRights checks that nothing is recorded with the rights of an earlier
// release, that the denial is remembered, and that no other object's directory is written.
func TestDrillIdentityWithoutRights(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	f := &fakeVault{denied: "secret/metadata/dir/drill-", now: func() time.Time { return at }}
	client := f.startEarlier(t)
	identity, _, err := config.NewDrillIdentity(true)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	create := func(uid string, failure error) error {
		return client.CreateDrillIdentity(t.Context(), f.deployment(uid, true), drillEntry, identity, func(context.Context) error { records++; return failure })
	}
	for range 3 {
		if err := create(ownUID, nil); ProblemOf(err) != SetupMissing || !OfFeature(err) || !strings.Contains(err.Error(), drills) {
			t.Errorf("got %v", err)
		}
	}
	asked := 0
	for _, path := range f.requests {
		if strings.Contains(path, "drill-") {
			asked++
		}
	}
	if records > 0 || asked != 1 || f.writes > 0 {
		t.Errorf("%d records, %d requests, %d writes", records, asked, f.writes)
	}
	f.denied, at = "", at.Add(denialPause)
	if err := create(otherUID, nil); ProblemOf(err) != Taken || records > 0 {
		t.Errorf("of another object: %v, %d records", err, records)
	}
	if err := create(ownUID, errCrash); !errors.Is(err, errCrash) || f.writes > 0 {
		t.Errorf("not recorded: %v, %d writes", err, f.writes)
	}
	f.denied = "secret/data/dir/drill-"
	if err := create(ownUID, nil); ProblemOf(err) != SetupMissing || !OfFeature(err) {
		t.Errorf("no right to create: %v", err)
	}
	f.denied, at = "", at.Add(denialPause)
	if err := create(ownUID, nil); err != nil {
		t.Error(err)
	}
	f.denied = "secret/metadata/dir/drill-"
	if err := client.DestroyDrillIdentity(t.Context(), f.deployment(ownUID, true), drillEntry); ProblemOf(err) != SetupMissing || !OfFeature(err) {
		t.Errorf("no right to destroy: %v", err)
	}
}
