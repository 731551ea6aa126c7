package store_test

import (
	"errors"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestCreationsTogether checks that notes that share a transaction each need their own session and
// key, and that none fails because of another.
func TestCreationsTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice, bob := newUser(t, db, "alice", 1), newUser(t, db, "bob", 1)
		creation := func(id sessions.Identity, key string) store.Creation {
			n := alice.sealedNote()
			n.KeyID = key
			return store.Creation{Identity: id, Note: n}
		}
		full := creation(alice.id, alice.key.ID)
		full.Note.Tags = sealedBytes('g')
		for field, value := range reflect.ValueOf(full.Note).Fields() {
			if value.IsZero() {
				t.Fatalf("the full note has no %s, so nothing shows that it is stored: set it", field.Name)
			}
		}
		bare := creation(bob.id, bob.key.ID)
		bare.Note.Title = nil
		list := []store.Creation{
			full, bare,
			creation(alice.id, bob.key.ID),
			creation(sessions.Identity{Owner: alice.id.Owner, Session: uuid.NewString()}, alice.key.ID),
			creation(sessions.Identity{Owner: alice.id.Owner, Session: bob.id.Session}, alice.key.ID),
			creation(alice.id, alice.key.ID),
		}
		want := []error{nil, nil, envelope.ErrKeyNotActive, envelope.ErrKeyNotActive, envelope.ErrKeyNotActive, nil}
		mustBe := func(what string, want []error, got []error) {
			t.Helper()
			for i := range want {
				if !errors.Is(got[i], want[i]) {
					t.Errorf("%s, note %d: %v, want %v", what, i, got[i], want[i])
				}
			}
		}
		mustBe("together", want, store.CreateTogether(ctx, db, now, list))
		for i, c := range list {
			got, key, err := db.Note(ctx, c.Identity, now, c.Note.ID)
			if want[i] != nil {
				if err == nil {
					t.Errorf("note %d is stored", i)
				}
				continue
			}
			if err != nil || key.ID != c.Note.KeyID {
				t.Errorf("note %d: key %s, error %v; want key %s", i, key.ID, err, c.Note.KeyID)
			}
			if diff := cmp.Diff(c.Note, got); diff != "" {
				t.Errorf("note %d (-want +got):\n%s", i, diff)
			}
		}
		// One note fails the whole statement. The others must be stored.
		again := []store.Creation{creation(alice.id, alice.key.ID), full, creation(bob.id, bob.key.ID)}
		mustBe("with one that exists", []error{nil, notes.ErrExists, nil}, store.CreateTogether(ctx, db, now, again))
	})
}

// TestReadsTogether checks that reads that share a statement each need their own session and owner.
func TestReadsTogether(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice, bob := newUser(t, db, "alice", 1), newUser(t, db, "bob", 1)
		hers, his := alice.sealedNote(), bob.sealedNote()
		hers.Tags = sealedBytes('g')
		for user, n := range map[fixture]notes.Sealed{alice: hers, bob: his} {
			if err := db.CreateNote(ctx, user.id, now, n); err != nil {
				t.Fatal(err)
			}
		}
		ended := sessions.Identity{Owner: alice.id.Owner, Session: bob.id.Session}
		list := []store.Reading{{bob.id, his.ID}, {alice.id, hers.ID}, {bob.id, hers.ID}, {ended, hers.ID}, {alice.id, uuid.NewString()}, {alice.id, hers.ID}}
		want := []error{nil, nil, notes.ErrNotFound, sessions.ErrInvalid, notes.ErrNotFound, nil}
		got, errs := store.ReadTogether(ctx, db, now, list)
		for i := range list {
			if !errors.Is(errs[i], want[i]) {
				t.Errorf("read %d: %v, want %v", i, errs[i], want[i])
			}
		}
		for i, n := range map[int]notes.Sealed{0: his, 1: hers, 5: hers} {
			if diff := cmp.Diff(n, got[i]); diff != "" {
				t.Errorf("read %d:\n%s", i, diff)
			}
		}
		if _, errs := store.ReadTogether(ctx, db, now.Add(time.Hour), list); !errors.Is(errs[0], sessions.ErrInvalid) {
			t.Errorf("after the session has expired: %v", errs[0])
		}
	})
}

// TestConcurrentCreations checks that the note of each of many concurrent requests is stored.
func TestConcurrentCreations(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		users := []fixture{newUser(t, db, "alice", 1), newUser(t, db, "bob", 1), newUser(t, db, "carol", 1)}
		var requests sync.WaitGroup
		for i := range 150 {
			user := users[i%len(users)]
			requests.Go(func() {
				if err := db.CreateNote(ctx, user.id, now, user.sealedNote()); err != nil {
					t.Error(err)
				}
			})
		}
		requests.Wait()
		for _, user := range users {
			if list, err := db.Notes(ctx, user.id, now, "", 1000); err != nil || len(list) != 50 {
				t.Errorf("%d notes, %v; want 50", len(list), err)
			}
		}
	})
}
