// Package ratelimit slows down whoever tries passwords, and whoever asks too much.
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ulule/limiter/v3"

	"github.com/securenotes/securenotes/app/internal/clientaddress"
)

// perUsername is how many times as many failed logins a minute a username may have as an address:
// an attacker with many addresses is slowed, and cannot lock the user out for long.
const perUsername = 6

// How many codes of the second factor, of which one in 333,333 is right by chance, are checked for a user:
// in an hour from one address, so that whoever has the password does not lock the user out with the first ten,
// and in 30 days from all of them. After that only a recovery code helps.
const (
	codesPerHour   = 10
	codesPerPeriod = 100
	codesPeriod    = 30 * 24 * time.Hour
)

// LimitedError means that a limit is reached.
type LimitedError struct {
	// RetryAfter is how long to wait, at least a second.
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("the limit is reached for %s more", e.RetryAfter.Round(time.Second))
}

// Rates are what Logins allows.
type Rates struct {
	// FailedLogins a minute from an address; a username may have six times as many.
	FailedLogins int
	// Registrations in 24 hours from an address.
	Registrations int
}

// Logins counts failed logins by address and by username, registrations by address, and codes by
// user. It is safe for concurrent use.
type Logins struct {
	store             limiter.Store
	address, username *limiter.Limiter
	registrations     *limiter.Limiter
	code, codes       *limiter.Limiter
	proposal          *limiter.Limiter
	now               func() time.Time
}

// NewLogins returns limits that are counted in store.
func NewLogins(store limiter.Store, r Rates) *Logins {
	limit := func(n int, period time.Duration) *limiter.Limiter {
		return limiter.New(store, limiter.Rate{Period: period, Limit: int64(n)})
	}
	return &Logins{
		store:         store,
		address:       limit(r.FailedLogins, time.Minute),
		username:      limit(r.FailedLogins*perUsername, time.Minute),
		registrations: limit(r.Registrations, 24*time.Hour),
		code:          limit(codesPerHour, time.Hour),
		codes:         limit(codesPerPeriod, codesPeriod),
		proposal:      limit(codesPerHour, time.Hour),
		now:           time.Now,
	}
}

// CheckLogin returns a *LimitedError when a login from the address, or for the username, must wait.
// It counts nothing. username is a digest of the name.
func (l *Logins) CheckLogin(ctx context.Context, address, username string) error {
	for _, counter := range l.loginCounters(address, username) {
		state, err := counter.limiter.Peek(ctx, counter.key)
		if err != nil {
			return fmt.Errorf("count of failed logins: %w", err)
		}
		if state.Remaining <= 0 {
			return &LimitedError{RetryAfter: wait(state.Reset, l.now())}
		}
	}
	return nil
}

// TakeLogin counts a login before its password is looked at, so that no number of guesses at once
// passes the limit. giveBack takes the count back, for a login that has not failed. Errors:
// *LimitedError.
func (l *Logins) TakeLogin(ctx context.Context, address, username string) (giveBack func(context.Context) error, err error) {
	return l.take(ctx, l.loginCounters(address, username))
}

// TakeRegistration counts a registration before its password is hashed. giveBack takes the count
// back, for one that created no account. Errors: *LimitedError.
func (l *Logins) TakeRegistration(ctx context.Context, address string) (giveBack func(context.Context) error, err error) {
	return l.take(ctx, []counter{{l.registrations, "registrations:" + clientaddress.Network(address)}})
}

// TakeCode counts a code of the user's second factor, and returns a *LimitedError when it is one
// too many.
func (l *Logins) TakeCode(ctx context.Context, address, user string) error {
	_, err := l.take(ctx, l.codeCounters(address, user))
	return err
}

// TakeProposalCode counts a code that is to confirm a proposed second factor, and returns a
// *LimitedError when it is one too many. Each proposal, by its id, has a count of its own.
func (l *Logins) TakeProposalCode(ctx context.Context, proposal string) error {
	_, err := l.take(ctx, []counter{{l.proposal, "proposal:" + proposal}})
	return err
}

// CodeAccepted forgets the codes that were counted from the address, and from all.
func (l *Logins) CodeAccepted(ctx context.Context, address, user string) error {
	for _, counter := range l.codeCounters(address, user) {
		if _, err := counter.limiter.Reset(ctx, counter.key); err != nil {
			return fmt.Errorf("count of codes: %w", err)
		}
	}
	return nil
}

// Forget removes the codes that were counted of a user who is no more: from all addresses where the store can find
// them, as the database can; else those of single addresses go when their hour is over.
func (l *Logins) Forget(ctx context.Context, user string) error {
	if _, err := l.codes.Reset(ctx, codesKey(user)); err != nil {
		return fmt.Errorf("count of codes: %w", err)
	}
	if store, ok := l.store.(interface {
		DeletePrefix(ctx context.Context, prefix string) error
	}); ok {
		if err := store.DeletePrefix(ctx, codePrefix(user)); err != nil {
			return fmt.Errorf("count of codes: %w", err)
		}
	}
	return nil
}

// counter is the count of one key under one limit.
type counter struct {
	limiter *limiter.Limiter
	key     string
}

func (l *Logins) loginCounters(address, username string) []counter {
	return []counter{{l.address, "login-address:" + clientaddress.Network(address)}, {l.username, "login-user:" + username}}
}

// codeCounters has the address first: who is limited there takes nothing from what all have.
func (l *Logins) codeCounters(address, user string) []counter {
	return []counter{{l.code, codePrefix(user) + clientaddress.Network(address)}, {l.codes, codesKey(user)}}
}

func codePrefix(user string) string { return "code:" + user + ":" }
func codesKey(user string) string   { return "codes:" + user }

// taken is one count that was taken.
type taken struct {
	counter
	// reset is when the period ends, and with it the count.
	reset time.Time
}

// take counts one in each counter, or in none and returns a *LimitedError.
func (l *Logins) take(ctx context.Context, counters []counter) (giveBack func(context.Context) error, err error) {
	ctx = context.WithoutCancel(ctx) // a count that was taken is known, also when the client hangs up
	var all []taken
	giveBack = func(ctx context.Context) error { return l.giveBack(ctx, all) }
	for _, c := range counters {
		state, err := c.limiter.Increment(ctx, c.key, 1)
		if err != nil {
			return nil, fmt.Errorf("count of attempts: %w", errors.Join(err, giveBack(ctx)))
		}
		all = append(all, taken{c, time.Unix(state.Reset, 0)})
		if state.Reached {
			if err := giveBack(ctx); err != nil {
				return nil, err
			}
			return nil, &LimitedError{RetryAfter: wait(state.Reset, l.now())}
		}
	}
	return giveBack, nil
}

// giveBack takes counts back. What belongs to a period that has ended is gone already; to subtract
// it would allow one more in the next period.
func (l *Logins) giveBack(ctx context.Context, all []taken) error {
	for _, t := range all {
		if !l.now().Before(t.reset.Add(-time.Second)) {
			continue
		}
		if _, err := t.limiter.Increment(ctx, t.key, -1); err != nil {
			return fmt.Errorf("a count was not taken back: %w", err)
		}
	}
	return nil
}

func wait(reset int64, now time.Time) time.Duration {
	return max(time.Unix(reset, 0).Sub(now), 0) + time.Second
}
