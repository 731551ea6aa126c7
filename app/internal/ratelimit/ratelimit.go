// Package ratelimit slows down whoever tries passwords, and whoever asks too much.
package ratelimit

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/ulule/limiter/v3"

	"github.com/securenotes/securenotes/app/internal/accounts"
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

// LimitedError says that a limit is reached.
type LimitedError struct {
	// RetryAfter is how long to wait, at least a second.
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("the limit is reached for %s more", e.RetryAfter.Round(time.Second))
}

// Logins counts failed logins by address and by username, and codes by user. It is safe for concurrent use.
type Logins struct {
	store             limiter.Store
	address, username *limiter.Limiter
	code, codes       *limiter.Limiter
	now               func() time.Time
}

// NewLogins allows failures a minute from an address, and six times as many for a username, counted
// in store.
func NewLogins(store limiter.Store, failures int) *Logins {
	rate := func(limit int) limiter.Rate { return limiter.Rate{Period: time.Minute, Limit: int64(limit)} }
	return &Logins{
		store:    store,
		address:  limiter.New(store, rate(failures)),
		username: limiter.New(store, rate(failures*perUsername)),
		code:     limiter.New(store, limiter.Rate{Period: time.Hour, Limit: codesPerHour}),
		codes:    limiter.New(store, limiter.Rate{Period: codesPeriod, Limit: codesPerPeriod}),
		now:      time.Now,
	}
}

// TakeCode counts a code of the user's second factor, and returns a *LimitedError when it is one too many.
func (l *Logins) TakeCode(ctx context.Context, address, user string) error {
	for _, counter := range l.codeCounters(address, user) {
		state, err := counter.limiter.Increment(ctx, counter.key, 1)
		if err != nil {
			return fmt.Errorf("count of codes: %w", err)
		}
		if state.Reached {
			return &LimitedError{RetryAfter: wait(state.Reset, l.now())}
		}
	}
	return nil
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

// codeCounters has the address first: who is limited there takes nothing from what all have.
func (l *Logins) codeCounters(address, user string) []counter {
	return []counter{{l.code, codePrefix(user) + Network(address)}, {l.codes, codesKey(user)}}
}

func codePrefix(user string) string { return "code:" + user + ":" }
func codesKey(user string) string   { return "codes:" + user }

// Check returns a *LimitedError when a login from the address, or for the username, must wait.
func (l *Logins) Check(ctx context.Context, address, username string) error {
	for _, counter := range l.counters(address, username) {
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

// Failed counts a failed login.
func (l *Logins) Failed(ctx context.Context, address, username string) error {
	for _, counter := range l.counters(address, username) {
		if _, err := counter.limiter.Increment(ctx, counter.key, 1); err != nil {
			return fmt.Errorf("count of failed logins: %w", err)
		}
	}
	return nil
}

type counter struct {
	limiter *limiter.Limiter
	key     string
}

func (l *Logins) counters(address, username string) []counter {
	return []counter{{l.address, "login-address:" + Network(address)}, {l.username, "login-user:" + accounts.UsernameDigest(username)}}
}

// Network is what addresses are counted by: an IPv4 address, or the /64 of an IPv6 one, of which
// every home has 2^64 addresses.
func Network(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "unknown"
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	prefix, err := ip.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return prefix.String()
}

func wait(reset int64, now time.Time) time.Duration {
	return max(time.Unix(reset, 0).Sub(now), 0) + time.Second
}
