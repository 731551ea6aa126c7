package vaultadmin

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// MaxCalls bounds the concurrent calls to one Vault. A process with more workers than this
	// always has one left for other Vaults.
	MaxCalls = 3
	// BusyPause is the pause before a retry after [Busy].
	BusyPause = time.Second
	// gateWait bounds the wait for other calls to end. Calls to a Vault that answers take
	// milliseconds.
	gateWait = 500 * time.Millisecond
	// hungPause is the pause after a call that timed out. It is longer than loginPause, so that the
	// next call does not get a remembered login error.
	hungPause = 6 * time.Second
)

// gate prevents a Vault that does not answer from blocking every worker of the operator. After a
// call that timed out, calls fail at once, except for one at a time that probes whether Vault
// answers again.
type gate struct {
	address string
	now     func() time.Time
	places  chan struct{}

	mu sync.Mutex
	// hung is the error of the last call that timed out. nil: Vault answers.
	hung error
	// retryAt is when the next call may probe Vault. probing reports that one is doing so.
	retryAt time.Time
	probing bool
	// answeredAt is the time of Vault's last answer.
	answeredAt time.Time
}

func newGate(address string, now func() time.Time) *gate {
	return &gate{address: address, now: now, places: make(chan struct{}, MaxCalls)}
}

// pass runs call unless Vault is hung or busy. Errors: that of call; Unreachable; Busy.
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
		// Otherwise only this call is slow, and others are answered.
		g.hung, g.retryAt = err, g.now().Add(hungPause)
	}
	return err
}

// admit returns an error while Vault is hung. It reports whether the call is a probe.
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
