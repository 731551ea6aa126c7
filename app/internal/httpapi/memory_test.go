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
		"small":                      {[]int{1, smallSize - 1}, 0, nil},
		"over the edge":              {[]int{smallSize - 1, 2}, 1, nil},
		"large":                      {[]int{smallSize + 100}, 100, nil},
		"one byte more than a share": {[]int{smallSize + 100, 1}, 100, errOwnShare},
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
