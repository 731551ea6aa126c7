package httpapi

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxExports bounds the exports in progress, each of which holds exportSize bytes.
	// maxUserExports bounds those of one user.
	maxExports, maxUserExports, exportSize = 4, 2, 5 << 20
	// exportPreemptAfter is how long an export keeps its slot when another user needs it.
	exportPreemptAfter = 30 * time.Second
	// exportWait is how long a new export waits for the slot of one that was preempted.
	exportWait = time.Second
)

// errPreempted means that an export was cut off for another user's.
var errPreempted = fmt.Errorf("%w: a slow export was cut off for another user's export", errBusy)

// exports gives out the slots for exports. When all are in use, a user who has fewer slots gets
// that of the slowest export of another user. It is safe for concurrent use.
type exports struct {
	now func() time.Time

	mu     sync.Mutex
	slots  map[*exportSlot]struct{}
	byUser map[string]int
	// released is closed when a slot is released.
	released chan struct{}
}

// exportSlot is the slot of one export.
type exportSlot struct {
	user string
	// sent is how many bytes the client has taken.
	sent atomic.Int64

	// The mutex of exports guards what follows.

	since time.Time
	// preempt ends the export; it is nil after it was called. It is called with the mutex held, and
	// so never after release.
	preempt func()
}

func newExports(now func() time.Time) *exports {
	return &exports{now: now, slots: map[*exportSlot]struct{}{}, byUser: map[string]int{}, released: make(chan struct{})}
}

// acquire acquires a slot. Errors: errUserBusy, errBusy, ctx's.
func (e *exports) acquire(ctx context.Context, s *exportSlot) error {
	released, err := e.tryAcquire(s, true)
	if released == nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, exportWait, errBusy)
	defer cancel()
	for released != nil {
		select {
		case <-released:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		released, err = e.tryAcquire(s, false)
	}
	return err
}

// tryAcquire acquires a slot. When there is none, it preempts another export if it may, and returns
// a channel that is closed when a slot is released. Errors: errUserBusy, errBusy.
func (e *exports) tryAcquire(s *exportSlot, mayPreempt bool) (released <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.byUser[s.user] >= maxUserExports:
		return nil, errUserBusy
	case len(e.slots) < maxExports:
		s.since = e.now()
		e.slots[s] = struct{}{}
		e.byUser[s.user]++
		return nil, nil
	}
	if mayPreempt {
		victim := e.victim(s.user)
		if victim == nil {
			return nil, errBusy
		}
		victim.preempt()
		victim.preempt = nil
	}
	return e.released, nil
}

// victim returns the export to preempt for the user, or nil. It must have had its slot for
// exportPreemptAfter, and its user must have more slots. Of these exports, it is the slowest one of
// the user who has the most.
func (e *exports) victim(user string) *exportSlot {
	var chosen *exportSlot
	for s := range e.slots {
		if s.preempt == nil || e.now().Sub(s.since) <= exportPreemptAfter || e.byUser[s.user] <= e.byUser[user] {
			continue
		}
		if chosen == nil || e.byUser[s.user] > e.byUser[chosen.user] ||
			e.byUser[s.user] == e.byUser[chosen.user] && e.rate(s) < e.rate(chosen) {
			chosen = s
		}
	}
	return chosen
}

// rate returns the bytes a second that an export has sent since it began.
func (e *exports) rate(s *exportSlot) float64 {
	return float64(s.sent.Load()) / e.now().Sub(s.since).Seconds()
}

func (e *exports) release(s *exportSlot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.slots, s)
	if e.byUser[s.user]--; e.byUser[s.user] == 0 {
		delete(e.byUser, s.user)
	}
	close(e.released)
	e.released = make(chan struct{})
}
