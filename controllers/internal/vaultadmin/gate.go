package vaultadmin

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// MaxCalls is how many calls to one Vault are under way at once. A process with more workers
	// than that for each Vault always has one left for the others.
	MaxCalls = 3
	// BusyPause is when to come back after [Busy].
	BusyPause = time.Second
	// gateWait is how long a call waits for others to end. Those of a Vault that answers take
	// milliseconds.
	gateWait = 500 * time.Millisecond
	// hungPause is how long a Vault that did not answer in time is left alone. It is longer than
	// loginPause, so that the next call is not answered by what the login remembers.
	hungPause = 6 * time.Second
)

// gate keeps a Vault that does not answer from occupying every worker of the operator. After a call
// that timed out, calls fail at once, but for a single one at a time that finds out whether Vault
// answers again.
type gate struct {
	address string
	now     func() time.Time
	places  chan struct{}

	mu sync.Mutex
	// hung is the error of the call that timed out last; nil while Vault answers.
	hung error
	// retryAt is when the next call may find out, and probing that one is about to.
	retryAt time.Time
	probing bool
	// answeredAt is when Vault answered last.
	answeredAt time.Time
}

func newGate(address string, now func() time.Time) *gate {
	return &gate{address: address, now: now, places: make(chan struct{}, MaxCalls)}
}

// pass does call, unless Vault is hung or busy. Errors: that of the call; Unreachable; Busy.
func (g *gate) pass(ctx context.Context, call func() error) error {
	probe, err := g.admit()
	if err != nil {
		return err
	}
	began := g.now()
	err = g.take(ctx)
	if err == nil {
		err = call()
		<-g.places
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if probe {
		g.probing = false
	}
	switch {
	case ProblemOf(err) == Busy, errors.Is(err, context.Canceled):
	case !timedOut(err):
		g.hung, g.answeredAt = nil, g.now()
	case !g.answeredAt.After(began):
		// Otherwise this call alone takes long, and others are answered.
		g.hung, g.retryAt = err, g.now().Add(hungPause)
	}
	return err
}

// admit reports whether the call is to find out if Vault answers again.
func (g *gate) admit() (probe bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hung == nil {
		return false, nil
	}
	if g.probing || g.now().Before(g.retryAt) {
		return false, g.hung
	}
	g.probing = true
	return true, nil
}

func (g *gate) take(ctx context.Context) error {
	select {
	case g.places <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(gateWait)
	defer timer.Stop()
	select {
	case g.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return problem(Busy, "Vault at %s has not answered earlier calls yet", g.address)
	}
}

// timedOut reports whether a call ended without an answer because it took too long.
func timedOut(err error) bool {
	cause, ok := errors.AsType[net.Error](err)
	return ok && cause.Timeout()
}
