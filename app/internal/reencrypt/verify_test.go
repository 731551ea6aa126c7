package reencrypt_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestVerificationOpensEveryValue checks that All opens every value, and that without it one row of
// each table is opened under each key. So only All finds damage in the last column of a user's last
// row.
func TestVerificationOpensEveryValue(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		const users, notesEach, large = 2, 230, 7 // three batches by number, and two by size
		w := newWorld(t, open, users, notesEach)
		for range large {
			w.addNote(t, w.api(), w.users[0], strings.Repeat("ü", 100_000))
		}
		to := w.rotate(t)
		if err := w.job(reencrypt.Reencrypt, to).Run(ctx); err != nil {
			t.Fatal(err)
		}
		verify := func(all bool) (reencrypt.Report, error) {
			v := w.verification(reencrypt.Reencrypt, to)
			v.All = all
			return v.Run(ctx)
		}
		for all, want := range map[bool]int64{
			// A note has content, title and tags; a second factor a seed.
			true: users*(notesEach*3+1) + large*3, false: users * (3 + 1),
		} {
			if report, err := verify(all); err != nil || report.Keys != users || report.Values != want {
				t.Errorf("all %t: %d keys and %d values, %v; want %d and %d", all, report.Keys, report.Values, err, users, want)
			}
		}
		w.damageLast(t, to, w.users[1].id.Owner)
		if _, err := verify(false); err != nil {
			t.Errorf("one value of each key: %v", err)
		}
		if _, err := verify(true); !errors.Is(err, envelope.ErrNotAuthentic) {
			t.Errorf("all: %v, want ErrNotAuthentic", err)
		}
	})
}

// damageLast changes a bit in the last non-empty value of the owner's last note. A column that a
// later migration added is empty in this test.
func (w *world) damageLast(t *testing.T, to int, owner string) {
	t.Helper()
	w.change(t, to, owner, func(rows []store.SealedRow) []store.SealedRow {
		last := rows[len(rows)-1:]
		values := slices.DeleteFunc(slices.Clone(last[0].Values), func(v []byte) bool { return len(v) == 0 })
		value := values[len(values)-1]
		value[len(value)-1] ^= 1
		return last
	})
}
