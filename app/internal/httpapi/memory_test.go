package httpapi

import (
	"errors"
	"strconv"
	"testing"
)

// TestMemory: the first bytes of each request come from the memory for small ones, and nobody who holds
// nothing is remembered.
func TestMemory(t *testing.T) {
	m := newMemory()
	small, large := m.small.perUser, m.large.perUser
	for name, tc := range map[string]struct {
		takes []int
		err   error
	}{
		"small":                      {[]int{1, smallSize - 1}, nil},
		"over the edge":              {[]int{smallSize - 1, 2}, nil},
		"large":                      {[]int{smallSize + large}, nil},
		"one byte more than a share": {[]int{smallSize + large, 1}, errOwnShare},
	} {
		t.Run(name, func(t *testing.T) {
			r, sum := &room{of: m, user: "a"}, 0
			var err error
			for _, n := range tc.takes {
				if err = r.Take(n); err == nil {
					sum += n
				}
			}
			if !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			if got := m.small.taken + m.large.taken; got != sum || m.small.taken != min(sum, smallSize) {
				t.Errorf("%d bytes are taken, %d of them as small, want %d", got, m.small.taken, sum)
			}
			r.leave()
			(&room{of: m, user: "b"}).leave()
			if m.small.taken+m.large.taken+len(m.small.byUser)+len(m.large.byUser) != 0 {
				t.Errorf("afterwards %d and %d bytes are taken by %d and %d users",
					m.small.taken, m.large.taken, len(m.small.byUser), len(m.large.byUser))
			}
		})
	}
	// With all of the large memory taken, small requests are served.
	for user := range 4 {
		if err := (&room{of: m, user: strconv.Itoa(user)}).Take(smallSize + large); err != nil {
			t.Fatalf("user %d: %v", user, err)
		}
	}
	if err := (&room{of: m, user: "last"}).Take(2 * smallSize); !errors.Is(err, errBusy) {
		t.Errorf("a large request: %v, want %v", err, errBusy)
	}
	if err := (&room{of: m, user: "last"}).Take(m.large.most); !errors.Is(err, errOwnShare) {
		t.Errorf("more than a share: %v, want %v", err, errOwnShare)
	}
	if err := (&room{of: m, user: "last"}).Take(smallSize); err != nil {
		t.Errorf("a small request: %v", err)
	}
	if small < smallSize {
		t.Errorf("the share of %d bytes is less than one small request", small)
	}
}
