package store_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestUsage checks that every stored byte of the owner's notes counts, and each of the owner's
// idempotency keys until it is deleted, and that nothing of another owner counts.
func TestUsage(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		alice, bob := newUser(t, db, "alice", 1), newUser(t, db, "bob", 1)
		mustUse := func(what string, want notes.Usage) {
			t.Helper()
			if got, err := db.Usage(ctx, alice.id, now); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", what, got, err, want)
			}
		}
		mustUse("nothing", notes.Usage{})
		full, bare := alice.sealedNote(), alice.sealedNote()
		value := func(size int) []byte { return append(sealedBytes('x'), make([]byte, size)...)[:size] }
		full.Content, full.Title, full.Tags = value(400_000), value(50), value(60)
		bare.Content, bare.Title, bare.Tags = value(30), nil, nil
		for _, n := range []notes.Sealed{full, bare} {
			if err := db.CreateNote(ctx, alice.id, now, n); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.CreateNote(ctx, bob.id, now, bob.sealedNote()); err != nil {
			t.Fatal(err)
		}
		mustUse("two notes", notes.Usage{Notes: 2, Bytes: 400_140})
		if done, err := db.DeleteNote(ctx, alice.id, now, full.ID, 0); !done || err != nil {
			t.Fatalf("delete: %t, %v", done, err)
		}
		mustUse("one note", notes.Usage{Notes: 1, Bytes: 30})
		for i, user := range []fixture{alice, alice, bob} {
			key := notes.IdempotencyKey{Digest: strings.Repeat(strconv.Itoa(i), 64), Request: "r", Pepper: "p", Expires: now.Add(time.Hour)}
			n := user.sealedNote()
			if _, err := db.CreateNoteIdempotent(ctx, user.id, now, n, key); err != nil {
				t.Fatal(err)
			}
			if done, err := db.DeleteNote(ctx, user.id, now, n.ID, 0); !done || err != nil {
				t.Fatalf("delete: %t, %v", done, err)
			}
		}
		mustUse("two keys whose notes are deleted", notes.Usage{Notes: 1, Bytes: 30 + 2*notes.IdempotencyKeyBytes})
		if n, err := db.DeleteExpiredIdempotencyKeys(ctx, now.Add(time.Hour), 10); n != 3 || err != nil {
			t.Fatalf("%d keys are deleted, %v", n, err)
		}
		mustUse("no key", notes.Usage{Notes: 1, Bytes: 30})
	})
}
