package httpapi

import (
	"errors"
	"testing"
	"time"
)

// TestPoolMakesRoom: when all is taken, the request gives its memory back that has waited for its client for
// longest, of the user who holds the most; those that wait for no client keep theirs.
func TestPoolMakesRoom(t *testing.T) {
	type holder struct {
		user  string
		bytes int
		age   time.Duration
		waits bool
	}
	old := 2 * patience
	for name, tc := range map[string]struct {
		holders []holder
		// cut is the index of who is cut off; -1: nobody.
		cut int
	}{
		"the longest":               {[]holder{{"a", 5, old, true}, {"a", 5, 2 * old, true}}, 1},
		"of who holds the most":     {[]holder{{"a", 4, 2 * old, true}, {"b", 6, old, true}}, 1},
		"that waits for a client":   {[]holder{{"a", 5, 2 * old, false}, {"a", 5, old, true}}, 1},
		"none waits for a client":   {[]holder{{"a", 5, old, false}, {"b", 5, old, false}}, -1},
		"the first to be impatient": {[]holder{{"a", 5, 0, true}, {"a", 5, patience / 2, true}}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{large: newPool(10, 10)}
			cut := -1
			for i, h := range tc.holders {
				r := &room{of: m, user: h.user}
				if err := m.large.take(r, h.bytes, true); err != nil {
					t.Fatal(err)
				}
				r.begun = time.Now().Add(-h.age)
				if h.waits {
					r.waitsFor(func() {
						cut = i
						go m.large.give(r)
					})
				}
			}
			var want error
			if tc.cut < 0 {
				want = errBusy
			}
			if err := m.large.take(&room{of: m, user: "another"}, 3, true); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			if cut != tc.cut {
				t.Errorf("request %d is cut off, want %d", cut, tc.cut)
			}
		})
	}
}
