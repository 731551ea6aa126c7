package httpapi

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxExports bounds the exports under way, each of which holds exportSize bytes, and
	// maxUserExports those of one user.
	maxExports, maxUserExports, exportSize = 4, 2, 5 << 20
	// exportTerm is how long an export keeps its place when another user needs it.
	exportTerm = 30 * time.Second
	// exportWait is how long a new export waits for the place of one that it has cut off.
	exportWait = time.Second
)

// errMadeRoom means that an export was cut off in favor of another user's.
var errMadeRoom = fmt.Errorf("%w: a slow export was cut off to make room for another user's", errBusy)

// exports divides the places for exports among users. When all are taken, the slowest export makes
// room for a user who has fewer. It is safe for concurrent use.
type exports struct {
	now func() time.Time

	mu       sync.Mutex
	underWay map[*place]struct{}
	byUser   map[string]int
	// freed is closed when a place is given back.
	freed chan struct{}
}

// place is that of one export.
type place struct {
	user string
	// sent is how many bytes the client has taken.
	sent atomic.Int64

	// The mutex of exports guards what follows.

	begun time.Time
	// cut ends the export. nil: it has been called. It is called with the mutex held, and so never
	// after give.
	cut func()
}

func newExports(now func() time.Time) *exports {
	return &exports{now: now, underWay: map[*place]struct{}{}, byUser: map[string]int{}, freed: make(chan struct{})}
}

// take gives an export its place. Errors: errOwnShare, errBusy, ctx's.
func (e *exports) take(ctx context.Context, p *place) error {
	freed, err := e.try(p, true)
	if freed == nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, exportWait, errBusy)
	defer cancel()
	for freed != nil {
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		freed, err = e.try(p, false)
	}
	return err
}

// try takes a place. When there is none, it cuts off another export if it may, and returns what is
// closed when a place is given back. Errors: errOwnShare, errBusy.
func (e *exports) try(p *place, mayCut bool) (freed <-chan struct{}, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.byUser[p.user] >= maxUserExports:
		return nil, errOwnShare
	case len(e.underWay) < maxExports:
		p.begun = e.now()
		e.underWay[p] = struct{}{}
		e.byUser[p.user]++
		return nil, nil
	}
	if mayCut {
		victim := e.victim(p.user)
		if victim == nil {
			return nil, errBusy
		}
		victim.cut()
		victim.cut = nil
	}
	return e.freed, nil
}

// victim returns the export that makes room for one of the user: of those that have had their term
// and whose user has more, one of the user who has the most, and then the slowest. nil: there is
// none.
func (e *exports) victim(user string) *place {
	var chosen *place
	for p := range e.underWay {
		if p.cut == nil || e.now().Sub(p.begun) <= exportTerm || e.byUser[p.user] <= e.byUser[user] {
			continue
		}
		if chosen == nil || e.byUser[p.user] > e.byUser[chosen.user] ||
			e.byUser[p.user] == e.byUser[chosen.user] && e.rate(p) < e.rate(chosen) {
			chosen = p
		}
	}
	return chosen
}

// rate returns the bytes a second that an export has sent since it began.
func (e *exports) rate(p *place) float64 {
	return float64(p.sent.Load()) / e.now().Sub(p.begun).Seconds()
}

func (e *exports) give(p *place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.underWay, p)
	if e.byUser[p.user]--; e.byUser[p.user] == 0 {
		delete(e.byUser, p.user)
	}
	close(e.freed)
	e.freed = make(chan struct{})
}
