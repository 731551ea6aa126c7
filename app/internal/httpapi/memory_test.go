package httpapi

import (
	"errors"
	"testing"
)

// TestRoom: only what a request holds beyond the first bytes is taken from what all share, and
// nobody who holds nothing is remembered.
func TestRoom(t *testing.T) {
	for name, tc := range map[string]struct {
		takes []int
		// large is what is taken from the pool.
		large int
		err   error
	}{
		"small":                      {takes: []int{1, smallSize - 1}},
		"over the edge":              {takes: []int{smallSize - 1, 2}, large: 1},
		"large":                      {takes: []int{smallSize + 100}, large: 100},
		"one byte more than a share": {takes: []int{smallSize + 100, 1}, large: 100, err: errOwnShare},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(1000, 100)
			r := &room{of: p, user: "a"}
			var err error
			for _, n := range tc.takes {
				err = r.Take(n)
			}
			if !errors.Is(err, tc.err) || p.taken != tc.large {
				t.Errorf("%d bytes are taken, error %v; want %d, %v", p.taken, err, tc.large, tc.err)
			}
			r.leave()
			(&room{of: p, user: "b"}).leave()
			if p.taken+len(p.byUser)+len(p.rooms) != 0 {
				t.Errorf("afterwards %d bytes are taken by %d users in %d requests", p.taken, len(p.byUser), len(p.rooms))
			}
		})
	}
}
