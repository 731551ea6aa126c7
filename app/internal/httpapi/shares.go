package httpapi

import (
	"errors"
	"sync"
)

// Errors of shares, told apart with errors.Is.
var (
	// errBusy means that the requests under way fill the memory that is set aside for such.
	errBusy = errors.New("too many large requests at once")
	// errOwnShare means that the user's own do.
	errOwnShare = errors.New("too many large requests of one user at once")
)

// shares divides what there is of something among users. It is safe for concurrent use.
type shares struct {
	// most there is, and for one user.
	most, perUser int

	mu     sync.Mutex
	taken  int
	byUser map[string]int
}

func newShares(most, perUser int) *shares {
	return &shares{most: most, perUser: perUser, byUser: map[string]int{}}
}

// take errors: errOwnShare, errBusy.
func (s *shares) take(user string, n int) error {
	if n == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.byUser[user]+n > s.perUser:
		return errOwnShare
	case s.taken+n > s.most:
		return errBusy
	}
	s.taken += n
	s.byUser[user] += n
	return nil
}

func (s *shares) give(user string, n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.byUser[user] -= n; s.byUser[user] == 0 {
		delete(s.byUser, user)
	}
}
