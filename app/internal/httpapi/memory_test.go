package httpapi

import (
	"errors"
	"testing"
)

// TestReservation: only what a request holds beyond smallSize is reserved from the pool, and the
// pool forgets requests and users that hold nothing.
func TestReservation(t *testing.T) {
	for name, tc := range map[string]struct {
		reserves []int
		// large is what is reserved from the pool.
		large int
		err   error
	}{
		"small":                          {reserves: []int{1, smallSize - 1}},
		"over the edge":                  {reserves: []int{smallSize - 1, 2}, large: 1},
		"large":                          {reserves: []int{smallSize + 100}, large: 100},
		"one byte over the user's limit": {reserves: []int{smallSize + 100, 1}, large: 100, err: errUserBusy},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(1000, 100)
			r := &reservation{pool: p, user: "a"}
			var err error
			for _, n := range tc.reserves {
				err = r.Reserve(n)
			}
			if !errors.Is(err, tc.err) || p.reserved != tc.large {
				t.Errorf("%d bytes are reserved, error %v; want %d, %v", p.reserved, err, tc.large, tc.err)
			}
			r.release()
			(&reservation{pool: p, user: "b"}).release()
			if p.reserved+len(p.byUser)+len(p.reservations) != 0 {
				t.Errorf("afterwards %d bytes are reserved by %d users in %d requests", p.reserved, len(p.byUser), len(p.reservations))
			}
		})
	}
}
