package store_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestIdempotencyKeyIsReplacedOnce checks that of many concurrent requests with an idempotency key
// that has expired, one creates a note and the others get that note. A key that has not expired is
// unchanged.
func TestIdempotencyKeyIsReplacedOnce(t *testing.T) {
	later := now.Add(time.Hour)
	cases := map[string]struct {
		old notes.IdempotencyKey
		// created is the number of notes at the end, and request what is stored with the key.
		created int
		request string
	}{
		"no key":           {created: 1, request: "new"},
		"expired":          {old: notes.IdempotencyKey{Request: "old", Pepper: "p1", Expires: now}, created: 2, request: "new"},
		"another pepper":   {old: notes.IdempotencyKey{Request: "old", Pepper: "p0", Expires: later}, created: 2, request: "new"},
		"in use":           {old: notes.IdempotencyKey{Request: "old", Pepper: "p1", Expires: later}, created: 1, request: "old"},
		"previous release": {old: notes.IdempotencyKey{Expires: later}, created: 1, request: ""},
	}
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		db := open(t)
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				user := newUser(t, db, name, 1)
				digest := strings.Repeat("d", 64)
				if !tc.old.Expires.IsZero() {
					tc.old.Digest = digest
					if _, err := db.CreateNoteIdempotent(ctx, user.id, now.Add(-time.Hour), user.sealedNote(), tc.old); err != nil {
						t.Fatal(err)
					}
				}
				key := notes.IdempotencyKey{Digest: digest, Request: "new", Pepper: "p1", Expires: later}
				firsts := make([]notes.First, 10)
				var requests sync.WaitGroup
				for i := range firsts {
					requests.Go(func() {
						var err error
						if firsts[i], err = db.CreateNoteIdempotent(ctx, user.id, now, user.sealedNote(), key); err != nil {
							t.Error(err)
						}
					})
				}
				requests.Wait()
				for _, first := range firsts {
					if first.Request != tc.request || first.ID != firsts[0].ID {
						t.Errorf("a request got %+v, want request %q and the same note as %+v", first, tc.request, firsts[0])
					}
				}
				if first, found, err := db.FirstNote(ctx, user.id, now, key); err != nil || !found || first != firsts[0] {
					t.Errorf("the key belongs to %+v, %t, %v; want %+v", first, found, err, firsts[0])
				}
				if list, err := db.Notes(ctx, user.id, now, "", 100); err != nil || len(list) != tc.created {
					t.Errorf("%d notes, %v; want %d", len(list), err, tc.created)
				}
			})
		}
	})
}
