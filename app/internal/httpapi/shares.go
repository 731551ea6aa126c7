package httpapi

import (
	"errors"
	"sync"
)

const (
	// maxExports bounds the exports under way, each of which holds some 5 MB, and maxUserExports those of one user.
	maxExports, maxUserExports = 8, 2
	// maxAnswers bounds the notes of smallNote and more that are read at the same time, in bytes: those that wait for
	// a key, and those that are sent to clients which read slowly. maxUserAnswers bounds those of one user.
	maxAnswers, maxUserAnswers = 32 << 20, 16 << 20
	// smallNote is what is not worth counting, in bytes, so that small notes are served whatever is done with
	// large ones.
	smallNote = 16 << 10
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
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken -= n
	if s.byUser[user] -= n; s.byUser[user] == 0 {
		delete(s.byUser, user)
	}
}

// room is what one request holds of a share.
type room struct {
	of   *shares
	user string
	held int
}

// Take implements notes.Room.
func (r *room) Take(bytes int) error {
	if bytes < smallNote {
		return nil
	}
	if err := r.of.take(r.user, bytes); err != nil {
		return err
	}
	r.held += bytes
	return nil
}

func (r *room) leave() {
	if r.held > 0 {
		r.of.give(r.user, r.held)
	}
}
