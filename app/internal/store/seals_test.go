package store_test

import (
	"errors"
	"testing"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

func TestSealsAreCounted(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice, bob := newUser(t, db, "alice", 1), newUser(t, db, "bob", 1)
		for i := range int64(3) {
			if sum, err := db.CountSeals(ctx, alice.key, 10); err != nil || sum != 10*(i+1) {
				t.Errorf("sum %d, %v; want %d", sum, err, 10*(i+1))
			}
		}
		if sum, err := db.CountSeals(ctx, bob.key, 1); err != nil || sum != 1 {
			t.Errorf("another owner's sum %d, %v", sum, err)
		}
		gone := envelope.StoredKey{Owner: alice.id.Owner, ID: envelope.NewID()}
		if _, err := db.CountSeals(ctx, gone, 1); !errors.Is(err, envelope.ErrKeyNotActive) {
			t.Errorf("a key that does not exist: %v, want ErrKeyNotActive", err)
		}
	})
}

// TestKeyIsSucceeded checks that a key is replaced once, only while it is the active one, and only
// by a key that the fence accepts.
func TestKeyIsSucceeded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		f := newUser(t, db, "alice", 1)
		if err := db.RaiseFence(ctx, 2); err != nil {
			t.Fatal(err)
		}
		next := func(version int) envelope.StoredKey {
			return envelope.StoredKey{Owner: f.id.Owner, ID: envelope.NewID(), Wrapped: wrappedAt(version)}
		}
		mustBeActive := func(want envelope.StoredKey) {
			t.Helper()
			if got, err := db.ActiveKey(ctx, f.id, now); err != nil || got != want {
				t.Errorf("active key %+v, %v; want %+v", got, err, want)
			}
		}
		if err := db.SucceedKey(ctx, f.key, next(1), now); !errors.Is(err, accounts.ErrFenced) {
			t.Errorf("by a key under an older version: %v, want ErrFenced", err)
		}
		mustBeActive(f.key)
		second := next(2)
		if err := db.SucceedKey(ctx, f.key, second, now); err != nil {
			t.Fatal(err)
		}
		mustBeActive(second)
		// Another process replaces the key at the same time.
		if err := db.SucceedKey(ctx, f.key, next(2), now); err != nil {
			t.Fatal(err)
		}
		mustBeActive(second)
		keys, err := db.OwnersKeys(ctx, []string{f.id.Owner}, nil)
		if err != nil || len(keys) != 2 {
			t.Errorf("%d keys, %v; want the retiring key and the active one", len(keys), err)
		}
		gone := envelope.StoredKey{Owner: "00000000-0000-4000-8000-000000000000", ID: envelope.NewID(), Wrapped: wrappedAt(2)}
		if err := db.SucceedKey(ctx, gone, gone, now); err != nil {
			t.Errorf("of a deleted account: %v", err)
		}
	})
}
