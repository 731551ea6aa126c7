package ratelimit

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"
)

// Requests counts requests by user, or by address where no user is known. Each replica counts its own, and each session
// may have as many under way as its user has left:
// a shared counter would be a database write for every request. It is safe for concurrent use.
//
// A token alone is no user: its session may have ended, and whoever stole it must not be able to use up
// what the user may ask. So a request is counted when it is over and its session has proved alive, and until
// then only against the same session.
type Requests struct {
	limiter *limiter.Limiter
	// unproved counts the requests of a session since one has proved that it lives.
	unproved *limiter.Limiter
	now      func() time.Time

	mu sync.Mutex
	// underWay are the requests that have begun and are not counted yet, by session.
	underWay map[string]int64
}

// maxUnproved is how many requests of a session in a minute may prove nothing before what its address has left
// decides: a client that lives is wrong now and then, and shares its address with others.
const maxUnproved = 10

// Outcome is what a request has shown of its session.
type Outcome int

// The outcomes.
const (
	// Unknown: a part of the service was away, so that the session was not asked, or not heard of. Nobody is to blame.
	Unknown Outcome = iota
	// Proved: the session lives.
	Proved
	// Unproved: the session has ended, or the client has sent nothing that it had to be asked for.
	Unproved
)

// NewRequests allows a number of requests a minute.
func NewRequests(perMinute int) *Requests {
	store := memory.NewStore()
	return &Requests{
		limiter:  limiter.New(store, limiter.Rate{Period: time.Minute, Limit: int64(perMinute)}),
		unproved: limiter.New(store, limiter.Rate{Period: time.Minute, Limit: int64(perMinute)}),
		now:      time.Now, underWay: map[string]int64{},
	}
}

// Count counts one request of an address and returns a *LimitedError when it is one too many.
func (r *Requests) Count(ctx context.Context, address string) error {
	state, err := r.limiter.Increment(ctx, addressKey(address), 1)
	if err != nil {
		return fmt.Errorf("count of requests: %w", err)
	}
	if state.Reached {
		return &LimitedError{RetryAfter: wait(state.Reset, r.now())}
	}
	return nil
}

// Begin lets a request of a user's session from an address begin, or returns a *LimitedError: when the user
// has no requests left beside those of the session that are under way; or, where too many requests of the session
// have not proved it alive, when the address has none. end must be called once, when the request is over: it counts
// for the user if the session has proved alive, and for the address if it has not.
func (r *Requests) Begin(ctx context.Context, user, session, address string) (end func(Outcome) error, err error) {
	b := &begun{user: userKey(user), session: session, address: address}
	unproved, err := r.unproved.Peek(ctx, sessionKey(session))
	if err != nil {
		return nil, fmt.Errorf("count of requests: %w", err)
	}
	if used(unproved) >= min(maxUnproved, unproved.Limit) {
		if err := r.check(ctx, tokensKey(address), 0); err != nil {
			return nil, err
		}
	}
	b.suspect = used(unproved) > 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.check(ctx, b.user, r.underWay[session]); err != nil {
		return nil, err
	}
	r.underWay[session]++
	ctx = context.WithoutCancel(ctx) // a client that hangs up is no reason not to count
	return func(o Outcome) error { return r.end(ctx, b, o) }, nil
}

// begun is a request that is under way.
type begun struct {
	// user is the user's key.
	user, session, address string
	// suspect: requests of the session have proved nothing lately.
	suspect bool
}

// check returns a *LimitedError when no more than those under way are left.
func (r *Requests) check(ctx context.Context, key string, underWay int64) error {
	state, err := r.limiter.Peek(ctx, key)
	if err != nil {
		return fmt.Errorf("count of requests: %w", err)
	}
	if state.Remaining <= underWay {
		return &LimitedError{RetryAfter: wait(state.Reset, r.now())}
	}
	return nil
}

func (r *Requests) end(ctx context.Context, b *begun, o Outcome) (err error) {
	// Counted and no more under way in one step, so that no request in between sees neither.
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.underWay[b.session]--; r.underWay[b.session] <= 0 {
		delete(r.underWay, b.session)
	}
	switch o {
	case Proved:
		err = r.countProved(ctx, b)
	case Unproved:
		if _, err = r.limiter.Increment(ctx, tokensKey(b.address), 1); err == nil {
			_, err = r.unproved.Increment(ctx, sessionKey(b.session), 1)
		}
	case Unknown:
	}
	if err != nil {
		return fmt.Errorf("count of requests: %w", err)
	}
	return nil
}

// countProved counts for the user what a session asked before it proved alive, too: else each request that does would buy
// it some that are counted for nobody.
func (r *Requests) countProved(ctx context.Context, b *begun) error {
	before := int64(0)
	if b.suspect {
		unproved, err := r.unproved.Peek(ctx, sessionKey(b.session))
		if err == nil {
			before = used(unproved)
			_, err = r.unproved.Reset(ctx, sessionKey(b.session))
		}
		if err != nil {
			return err
		}
	}
	_, err := r.limiter.Increment(ctx, b.user, 1+before)
	return err
}

func used(c limiter.Context) int64 { return c.Limit - c.Remaining }

func userKey(user string) string       { return "user:" + user }
func sessionKey(session string) string { return "session:" + session }
func addressKey(address string) string { return "address:" + Network(address) }

// tokensKey is of requests with a token whose session proves nothing. They take nothing from those who have none yet: who
// wants to log in from the address.
func tokensKey(address string) string { return "tokens:" + Network(address) }
