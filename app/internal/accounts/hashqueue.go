package accounts

import (
	"context"
	"slices"
	"sync"
	"time"
)

// purpose is what a password is hashed for. Each purpose has its own queue, so that a flood of one
// kind does not stop the others.
type purpose int

const (
	forLogin purpose = iota
	forRegistration
	forReauthentication
	purposes
)

const (
	// hashWait is how long a request waits for a slot before the client is told to retry.
	hashWait = 3 * time.Second
	// maxWaiting bounds the requests that wait in one queue, and maxPartyWaiting those of one
	// party.
	maxWaiting, maxPartyWaiting = 256, 16
	// maxPartyHashing bounds the slots of one party in one queue. An attempt that the login limit
	// has counted must not be delayed by many others from the same address.
	maxPartyHashing = 2
)

// hashQueue gives out the slots for hashing passwords. There are as many slots as processors, so
// that a flood leaves processor time to users who are signed in. The purposes take turns. Within a
// purpose, the parties take turns (start-time fair queueing with one hash as the unit), however
// many requests each of them sends. A party is an address or a username; a login belongs to both.
// It is safe for concurrent use.
type hashQueue struct {
	mu        sync.Mutex
	free      int
	byPurpose [purposes]purposeQueue
	// next is the purpose that gets the next slot.
	next purpose
}

// purposeQueue is the queue of one purpose.
type purposeQueue struct {
	waiting []*hashWaiter // in the order of arrival
	// virtualTime is the start of the last request that got a slot.
	virtualTime int64
	// hashing counts the slots of each party.
	hashing map[string]int
}

// hashWaiter is a request that waits for a slot.
type hashWaiter struct {
	parties []string
	// start is in virtual time.
	start int64
	// admitted is closed when the request has a slot.
	admitted chan struct{}
}

func newHashQueue(slots int) *hashQueue {
	q := &hashQueue{free: slots}
	for i := range q.byPurpose {
		q.byPurpose[i].hashing = map[string]int{}
	}
	return q
}

// enter waits for a slot for a request of the parties. leave releases the slot. Errors: ErrBusy,
// and the context's.
func (q *hashQueue) enter(ctx context.Context, p purpose, parties ...string) (leave func(), err error) {
	w, err := q.join(p, parties...)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(hashWait)
	defer timer.Stop()
	select {
	case <-w.admitted:
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
	queue := &q.byPurpose[p]
	last := queue.virtualTime
	for _, party := range parties {
		own := 0
		for _, other := range queue.waiting {
			if slices.Contains(other.parties, party) {
				own, last = own+1, max(last, other.start)
			}
		}
		if own >= maxPartyWaiting {
			return nil, ErrBusy
		}
	}
	if len(queue.waiting) >= maxWaiting {
		return nil, ErrBusy
	}
	w := &hashWaiter{parties: parties, start: last + 1, admitted: make(chan struct{})}
	queue.waiting = append(queue.waiting, w)
	q.fill()
	return w, nil
}

// leave removes a request from its queue, or releases its slot.
func (q *hashQueue) leave(p purpose, w *hashWaiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	queue := &q.byPurpose[p]
	if i := slices.Index(queue.waiting, w); i >= 0 {
		queue.waiting = slices.Delete(queue.waiting, i, i+1)
		return
	}
	for _, party := range w.parties {
		if queue.hashing[party]--; queue.hashing[party] == 0 {
			delete(queue.hashing, party)
		}
	}
	q.free++
	q.fill()
}

// fill gives the free slots to the purposes in turn.
func (q *hashQueue) fill() {
	for skipped := purpose(0); q.free > 0 && skipped < purposes; {
		queue := &q.byPurpose[q.next]
		q.next = (q.next + 1) % purposes
		if !queue.admit() {
			skipped++
			continue
		}
		q.free--
		skipped = 0
	}
}

// admit gives a slot to the request with the earliest start, and reports whether there is one whose
// parties may have another slot.
func (q *purposeQueue) admit() bool {
	first := -1
	for i, w := range q.waiting {
		full := slices.ContainsFunc(w.parties, func(party string) bool { return q.hashing[party] >= maxPartyHashing })
		if !full && (first < 0 || w.start < q.waiting[first].start) {
			first = i
		}
	}
	if first < 0 {
		return false
	}
	w := q.waiting[first]
	q.waiting = slices.Delete(q.waiting, first, first+1)
	q.virtualTime = max(q.virtualTime, w.start)
	for _, party := range w.parties {
		q.hashing[party]++
	}
	close(w.admitted)
	return true
}
