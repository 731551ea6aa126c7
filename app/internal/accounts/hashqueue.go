package accounts

import (
	"context"
	"slices"
	"sync"
	"time"
)

// purpose is what a password is hashed for. Each has a line of its own, so that a flood of one kind
// does not stop the others.
type purpose int

const (
	forLogin purpose = iota
	forRegistration
	forReauthentication
	purposes
)

const (
	// hashWait is how long a request waits for a place before the client is told to come back.
	hashWait = 3 * time.Second
	// maxWaiting bounds the requests that wait in one line, and maxPartyWaiting those of one party.
	maxWaiting, maxPartyWaiting = 256, 16
	// maxPartyHashing bounds the places that one party has in one line, so that an attempt that
	// holds a ticket of the login limit is never held up by many others of its own address.
	maxPartyHashing = 2
)

// hashQueue gives out the places for hashing passwords: as many as there are processors, because a
// flood must leave processor time to users who are signed in. The lines take turns. Within a line,
// parties take turns too (start-time fair queueing, with one hash as the unit), however many
// requests each of them sends. A party is an address or a username, and a login is of both. It is
// safe for concurrent use.
type hashQueue struct {
	mu    sync.Mutex
	free  int
	lines [purposes]hashLine
	// next is the line that is asked first.
	next purpose
}

// hashLine is the line of one purpose.
type hashLine struct {
	waiting []*hashWaiter // in the order of arrival
	// clock is the turn of the last request that got a place.
	clock int64
	// hashing counts the places that each party has.
	hashing map[string]int
}

// hashWaiter is a request that waits for a place.
type hashWaiter struct {
	parties []string
	turn    int64
	// placed is closed when the request has a place.
	placed chan struct{}
}

func newHashQueue(places int) *hashQueue {
	q := &hashQueue{free: places}
	for i := range q.lines {
		q.lines[i].hashing = map[string]int{}
	}
	return q
}

// enter waits for a place for a request of the parties, and returns how to leave it. Errors:
// ErrBusy, and the context's.
func (q *hashQueue) enter(ctx context.Context, p purpose, parties ...string) (leave func(), err error) {
	w, err := q.join(p, parties...)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case <-w.placed:
		return func() { q.leave(p, w) }, nil
	case <-timer.C:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	q.leave(p, w)
	return nil, err
}

func (q *hashQueue) join(p purpose, parties ...string) (*hashWaiter, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := &q.lines[p]
	last := line.clock
	for _, party := range parties {
		own := 0
		for _, other := range line.waiting {
			if slices.Contains(other.parties, party) {
				own, last = own+1, max(last, other.turn)
			}
		}
		if own >= maxPartyWaiting {
			return nil, ErrBusy
		}
	}
	if len(line.waiting) >= maxWaiting {
		return nil, ErrBusy
	}
	w := &hashWaiter{parties: parties, turn: last + 1, placed: make(chan struct{})}
	line.waiting = append(line.waiting, w)
	q.fill()
	return w, nil
}

// leave takes a request out of its line, or out of its place.
func (q *hashQueue) leave(p purpose, w *hashWaiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	line := &q.lines[p]
	if i := slices.Index(line.waiting, w); i >= 0 {
		line.waiting = slices.Delete(line.waiting, i, i+1)
		return
	}
	for _, party := range w.parties {
		if line.hashing[party]--; line.hashing[party] == 0 {
			delete(line.hashing, party)
		}
	}
	q.free++
	q.fill()
}

// fill gives the free places to the lines in turn.
func (q *hashQueue) fill() {
	for skipped := purpose(0); q.free > 0 && skipped < purposes; {
		line := &q.lines[q.next]
		q.next = (q.next + 1) % purposes
		if !line.place() {
			skipped++
			continue
		}
		q.free--
		skipped = 0
	}
}

// place gives a place to the request whose turn is the earliest, and reports whether there is one.
func (l *hashLine) place() bool {
	first := -1
	for i, w := range l.waiting {
		full := slices.ContainsFunc(w.parties, func(party string) bool { return l.hashing[party] >= maxPartyHashing })
		if !full && (first < 0 || w.turn < l.waiting[first].turn) {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	w := l.waiting[first]
	l.waiting = slices.Delete(l.waiting, first, first+1)
	l.clock = max(l.clock, w.turn)
	for _, party := range w.parties {
		l.hashing[party]++
	}
	close(w.placed)
	return true
}
