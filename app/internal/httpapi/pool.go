package httpapi

import (
	"errors"
	"sync"
	"time"
)

// Errors of shared memory and places, told apart with errors.Is.
var (
	// errBusy means that the requests under way fill the memory that is set aside for such.
	errBusy = errors.New("too many large requests at once")
	// errOwnShare means that the user's own do.
	errOwnShare = errors.New("too many large requests of one user at once")
)

// patience is how long a request that waits for its client keeps its memory when another one needs
// it, and how long that one waits for what is given back.
const patience = time.Second

// pool divides memory among the requests that need much of it. Who sends or reads slowly makes room
// for others when it is full, so that no number of accounts that hold on to memory stops everybody
// else. It is safe for concurrent use.
type pool struct {
	// most bytes there are, and for one user.
	most, perUser int

	mu     sync.Mutex
	taken  int
	byUser map[string]int
	rooms  map[*room]struct{}
	// freed is closed when memory is given back.
	freed chan struct{}
}

func newPool(most, perUser int) *pool {
	return &pool{most: most, perUser: perUser, byUser: map[string]int{}, rooms: map[*room]struct{}{}, freed: make(chan struct{})}
}

// take gives memory to a request. One that waits gets what others give back in a moment. Errors:
// errOwnShare, errBusy.
func (p *pool) take(r *room, n int) error {
	var waited, again <-chan time.Time
	for {
		cut, freed, err := p.try(r, n)
		if err == nil {
			return nil
		}
		if cut != nil {
			cut()
		}
		if !r.waits || n > p.perUser {
			return err
		}
		if waited == nil {
			// The youngest of those that hold everything loses patience meanwhile.
			timer, ticker := time.NewTimer(2*patience), time.NewTicker(patience/10)
			defer timer.Stop()
			defer ticker.Stop()
			waited, again = timer.C, ticker.C
		}
		select {
		case <-freed:
		case <-again:
		case <-waited:
			return err
		}
	}
}

// try takes memory, or returns how to end a request that keeps it for too long, if there is one,
// and what tells that some was given back. Errors: errOwnShare, errBusy.
func (p *pool) try(r *room, n int) (cut func(), freed <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.byUser[r.user]+n > p.perUser:
		return p.victim(r.user), p.freed, errOwnShare
	case p.taken+n > p.most:
		return p.victim(""), p.freed, errBusy
	}
	p.add(r, n)
	return nil, nil, nil
}

func (p *pool) add(r *room, n int) {
	if r.large == 0 {
		r.begun = time.Now()
		p.rooms[r] = struct{}{}
	}
	r.large += n
	p.taken += n
	p.byUser[r.user] += n
}

// victim returns how to end the request that has waited for its client the longest, and longer than
// patience: of the user, or, where none is named, of the one who holds the most. nil: there is
// none.
func (p *pool) victim(user string) (cut func()) {
	var chosen *room
	for r := range p.rooms {
		if r.cut == nil || time.Since(r.begun) < patience || user != "" && r.user != user {
			continue
		}
		if chosen == nil || p.byUser[r.user] > p.byUser[chosen.user] ||
			p.byUser[r.user] == p.byUser[chosen.user] && r.begun.Before(chosen.begun) {
			chosen = r
		}
	}
	if chosen == nil {
		return nil
	}
	cut, chosen.cut = chosen.cut, nil
	return cut
}

// give gives back all that a request holds.
func (p *pool) give(r *room) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.large == 0 {
		return
	}
	p.taken -= r.large
	if p.byUser[r.user] -= r.large; p.byUser[r.user] == 0 {
		delete(p.byUser, r.user)
	}
	r.large, r.cut = 0, nil
	delete(p.rooms, r)
	close(p.freed)
	p.freed = make(chan struct{})
}
