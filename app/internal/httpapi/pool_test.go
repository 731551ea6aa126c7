package httpapi

import (
	"errors"
	"testing"
	"time"
)

// TestPoolMakesRoom: when all is taken, the request gives its memory back that has waited for its
// client for longest, of the user who holds the most; those that wait for no client keep theirs.
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
		asks    string
		// cut is the index of who is cut off; -1: nobody.
		cut int
	}{
		"the longest":                 {holders: []holder{{"a", 5, old, true}, {"a", 5, 2 * old, true}}, asks: "another", cut: 1},
		"of who holds the most":       {holders: []holder{{"a", 4, 2 * old, true}, {"b", 6, old, true}}, asks: "another", cut: 1},
		"that waits for a client":     {holders: []holder{{"a", 5, 2 * old, false}, {"a", 5, old, true}}, asks: "another", cut: 1},
		"of a user with a full share": {holders: []holder{{"b", 1, 2 * old, true}, {"a", 8, old, true}}, asks: "a", cut: 1},
		"none waits for a client":     {holders: []holder{{"a", 5, old, false}, {"b", 5, old, false}}, asks: "another", cut: -1},
		"the first to be impatient":   {holders: []holder{{"a", 5, 0, true}, {"a", 5, patience / 2, true}}, asks: "another", cut: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(10, 10)
			cut := -1
			for i, h := range tc.holders {
				r := &room{of: p, user: h.user}
				if err := p.take(r, h.bytes); err != nil {
					t.Fatal(err)
				}
				r.begun = time.Now().Add(-h.age)
				if h.waits {
					r.waitsFor(func() {
						cut = i
						go p.give(r)
					})
				}
			}
			var want error
			if tc.cut < 0 {
				want = errBusy
			}
			if err := p.take(&room{of: p, user: tc.asks, waits: true}, 3); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			if cut != tc.cut {
				t.Errorf("request %d is cut off, want %d", cut, tc.cut)
			}
		})
	}
}
