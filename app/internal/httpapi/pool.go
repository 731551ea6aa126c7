package httpapi

import (
	"errors"
	"sync"
	"time"
)

// Errors of shared memory and of export slots, told apart with errors.Is.
var (
	// errBusy means that the requests in flight use up the shared memory or slots.
	errBusy = errors.New("too many large requests in flight")
	// errUserBusy means that the user's own requests use up the user's part of them.
	errUserBusy = errors.New("too many large requests of one user in flight")
)

// preemptAfter is how long a request that waits for its client keeps its memory when another
// request needs it.
const preemptAfter = time.Second

// pool is a memory budget that the large requests share. When it is used up, it preempts requests
// that wait for a slow client, so that no number of accounts that hold memory stops everybody else.
// It is safe for concurrent use.
type pool struct {
	// limit and userLimit are in bytes.
	limit, userLimit int

	mu           sync.Mutex
	reserved     int
	byUser       map[string]int
	reservations map[*reservation]struct{}
	// released is closed when memory is released.
	released chan struct{}
}

func newPool(limit, userLimit int) *pool {
	return &pool{
		limit: limit, userLimit: userLimit,
		byUser: map[string]int{}, reservations: map[*reservation]struct{}{}, released: make(chan struct{}),
	}
}

// reserve adds n bytes to a reservation. If that may wait, it waits for a moment until other
// requests release memory. Errors: errUserBusy, errBusy.
func (p *pool) reserve(r *reservation, n int) error {
	var timeout, retry <-chan time.Time
	for {
		preempt, released, err := p.tryReserve(r, n)
		if err == nil {
			return nil
		}
		if preempt != nil {
			preempt()
		}
		if !r.mayWait || n > p.userLimit {
			return err
		}
		if timeout == nil {
			// Even if all reservations are new, one of them can be preempted before the timeout.
			timer, ticker := time.NewTimer(2*preemptAfter), time.NewTicker(preemptAfter/10)
			defer timer.Stop()
			defer ticker.Stop()
			timeout, retry = timer.C, ticker.C
		}
		select {
		case <-released:
		case <-retry:
		case <-timeout:
			return err
		}
	}
}

// tryReserve reserves memory. If there is not enough, it returns how to preempt another request, if
// one may be preempted, and a channel that is closed when memory is released. Errors: errUserBusy,
// errBusy.
func (p *pool) tryReserve(r *reservation, n int) (preempt func(), released <-chan struct{}, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.byUser[r.user]+n > p.userLimit:
		return p.victim(r.user), p.released, errUserBusy
	case p.reserved+n > p.limit:
		return p.victim(""), p.released, errBusy
	}
	p.add(r, n)
	return nil, nil, nil
}

func (p *pool) add(r *reservation, n int) {
	if r.large == 0 {
		r.since = time.Now()
		p.reservations[r] = struct{}{}
	}
	r.large += n
	p.reserved += n
	p.byUser[r.user] += n
}

// victim returns how to preempt the request that has waited for its client for longest, and longer
// than preemptAfter: a request of the given user, or, if that is empty, of the user who holds the
// most. It returns nil if there is none.
func (p *pool) victim(user string) (preempt func()) {
	var chosen *reservation
	for r := range p.reservations {
		if r.preempt == nil || time.Since(r.since) < preemptAfter || user != "" && r.user != user {
			continue
		}
		if chosen == nil || p.byUser[r.user] > p.byUser[chosen.user] ||
			p.byUser[r.user] == p.byUser[chosen.user] && r.since.Before(chosen.since) {
			chosen = r
		}
	}
	if chosen == nil {
		return nil
	}
	preempt, chosen.preempt = chosen.preempt, nil
	return preempt
}

// release releases all memory of a reservation.
func (p *pool) release(r *reservation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.large == 0 {
		return
	}
	p.reserved -= r.large
	if p.byUser[r.user] -= r.large; p.byUser[r.user] == 0 {
		delete(p.byUser, r.user)
	}
	r.large, r.preempt = 0, nil
	delete(p.reservations, r)
	close(p.released)
	p.released = make(chan struct{})
}
