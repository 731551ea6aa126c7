// Package ratelimit limits failed logins, registrations, codes of the second factor, and requests.
package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ulule/limiter/v3"

	"github.com/securenotes/securenotes/app/internal/clientaddress"
)

// perUsername is how many times more failed logins a minute a username may have than an address.
// The limit slows down an attacker who has many addresses, and does not lock the user out for long.
const perUsername = 6

// How many codes of the second factor are checked for a user: in an hour from one address, and in
// 30 days from all addresses. One code in 333,333 is right by chance. The limit by address keeps an
// attacker who has the password from locking the user out with ten codes. At the other limit, only
// a recovery code helps.
const (
	codesPerHour   = 10
	codesPerPeriod = 100
	codesPeriod    = 30 * 24 * time.Hour
)

// LimitedError means that a limit is reached.
type LimitedError struct {
	// RetryAfter is how long to wait; it is at least a second.
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("the limit is reached; retry after %s", e.RetryAfter.Round(time.Second))
}

// Rates are the limits of [Logins].
type Rates struct {
	// FailedLogins is for an address in a minute; a username may have six times as many.
	FailedLogins int
	// Registrations is for an address in 24 hours.
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

// NewLogins returns limits whose counts are in store.
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

// CheckLogin returns a *LimitedError if a login from the address or for the username must wait. It
// counts nothing. username is a digest of the name.
func (l *Logins) CheckLogin(ctx context.Context, address, username string) error {
	for _, counter := range l.loginCounters(address, username) {
		state, err := counter.limiter.Peek(ctx, counter.key)
		if err != nil {
			return fmt.Errorf("count of failed logins: %w", err)
		}
		if state.Remaining <= 0 {
			return &LimitedError{RetryAfter: retryAfter(state.Reset, l.now())}
		}
	}
	return nil
}

// TakeLogin counts a login before its password is checked, so that parallel guesses cannot pass the
// limit. undo reverses the count of a login that has not failed. Errors: *LimitedError.
func (l *Logins) TakeLogin(ctx context.Context, address, username string) (undo func(context.Context) error, err error) {
	return l.take(ctx, l.loginCounters(address, username))
}

// TakeRegistration counts a registration before its password is hashed. undo reverses the count of
// one that created no account. Errors: *LimitedError.
func (l *Logins) TakeRegistration(ctx context.Context, address string) (undo func(context.Context) error, err error) {
	return l.take(ctx, []counter{{l.registrations, "registrations:" + clientaddress.Network(address)}})
}

// TakeCode counts a code of the user's second factor. Errors: *LimitedError.
func (l *Logins) TakeCode(ctx context.Context, address, user string) error {
	_, err := l.take(ctx, l.codeCounters(address, user))
	return err
}

// TakeProposalCode counts a code for a proposed second factor. Each proposal has its own count, by
// its id. Errors: *LimitedError.
func (l *Logins) TakeProposalCode(ctx context.Context, proposal string) error {
	_, err := l.take(ctx, []counter{{l.proposal, "proposal:" + proposal}})
	return err
}

// CodeAccepted resets the user's counts of codes, for the address and for all addresses.
func (l *Logins) CodeAccepted(ctx context.Context, address, user string) error {
	for _, counter := range l.codeCounters(address, user) {
		if _, err := counter.limiter.Reset(ctx, counter.key); err != nil {
			return fmt.Errorf("count of codes: %w", err)
		}
	}
	return nil
}

// Forget removes the counts of a deleted user. Redis cannot find the counts for single addresses;
// they expire within an hour.
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

// codeCounters returns the address's counter first: a code that is over that limit does not count
// for the other one.
func (l *Logins) codeCounters(address, user string) []counter {
	return []counter{{l.code, codePrefix(user) + clientaddress.Network(address)}, {l.codes, codesKey(user)}}
}

func codePrefix(user string) string { return "code:" + user + ":" }
func codesKey(user string) string   { return "codes:" + user }

// taken is one count that was taken.
type taken struct {
	counter
	// reset is when the period of the count ends.
	reset time.Time
}

// take adds one to each counter, or to none of them if a limit is reached. Errors: *LimitedError.
func (l *Logins) take(ctx context.Context, counters []counter) (undo func(context.Context) error, err error) {
	ctx = context.WithoutCancel(ctx) // a client that disconnects must not leave an unknown count
	var all []taken
	undo = func(ctx context.Context) error { return l.undo(ctx, all) }
	for _, c := range counters {
		state, err := c.limiter.Increment(ctx, c.key, 1)
		if err != nil {
			return nil, fmt.Errorf("count of attempts: %w", errors.Join(err, undo(ctx)))
		}
		all = append(all, taken{c, time.Unix(state.Reset, 0)})
		if state.Reached {
			if err := undo(ctx); err != nil {
				return nil, err
			}
			return nil, &LimitedError{RetryAfter: retryAfter(state.Reset, l.now())}
		}
	}
	return undo, nil
}

// undo subtracts counts, except those of a period that has ended: they would allow one more in the
// next period.
func (l *Logins) undo(ctx context.Context, all []taken) error {
	for _, t := range all {
		if !l.now().Before(t.reset.Add(-time.Second)) {
			continue
		}
		if _, err := t.limiter.Increment(ctx, t.key, -1); err != nil {
			return fmt.Errorf("take back a counted attempt: %w", err)
		}
	}
	return nil
}

// retryAfter returns the time until reset, in Unix seconds, and a second more.
func retryAfter(reset int64, now time.Time) time.Duration {
	return max(time.Unix(reset, 0).Sub(now), 0) + time.Second
}
