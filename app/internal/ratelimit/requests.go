package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ulule/limiter/v3"
	"github.com/ulule/limiter/v3/drivers/store/memory"

	"github.com/securenotes/securenotes/app/internal/clientaddress"
)

const (
	// maxUnproved is how many requests of a session in a minute may prove nothing before what its
	// address has left decides: a client that lives is wrong now and then, and shares its address with
	// others.
	maxUnproved = 10
	// maxUserUnderWay bounds the requests of a user that are under way at once, maxTokensUnderWay
	// those from an address with tokens of which no session has proved alive lately, and
	// maxAddressUnderWay those from an address without a token.
	maxUserUnderWay, maxTokensUnderWay, maxAddressUnderWay = 64, 64, 20
	// securityPerMinute is the budget of a session for the calls by which its user defends the
	// account, and maxSecurityUnderWay bounds those under way at once. No other request takes from
	// either.
	securityPerMinute, maxSecurityUnderWay = 60, 16
)

// sessionShare is what one session may have of what its user may: three quarters, so that a stolen
// token leaves its user something.
func sessionShare(n int64) int64 { return n - n/4 }

// ErrUnderWay means that a user or a session has too many requests under way.
var ErrUnderWay = errors.New("too many requests of one user at once")

// Requests counts requests by user and session, or by address where no user is known. Each replica
// counts its own: a shared counter would be a database write for every request. It is safe for
// concurrent use.
//
// A token alone is no user: its session may have ended, and whoever stole it must not be able to use up
// what the user may ask. So a request is counted when it is over and its session has proved alive, and until
// then only against the same session.
type Requests struct {
	// requests counts those of a user, and those of an address.
	requests, session, security *limiter.Limiter
	// unproved counts the requests of a session since one has proved that it lives.
	unproved *limiter.Limiter
	now      func() time.Time

	mu sync.Mutex
	// underWay are the requests that have begun and are not counted yet: by the key of their session's
	// budget, and by the user's key where the session has proved alive lately, else by the address's.
	underWay map[string]int64
}

// Request is a request with a token.
type Request struct {
	User, Session, Address string
	// Security marks the calls by which users defend their account: to end sessions, and to change the
	// password or the second factor.
	Security bool
}

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
	limit := func(n int64) *limiter.Limiter {
		return limiter.New(store, limiter.Rate{Period: time.Minute, Limit: n})
	}
	n := int64(perMinute)
	return &Requests{
		requests: limit(n), session: limit(sessionShare(n)), security: limit(securityPerMinute), unproved: limit(n),
		now: time.Now, underWay: map[string]int64{},
	}
}

// Count counts one request of an address, which is under way until end is called. Errors: a
// *LimitedError when it is one too many; ErrUnderWay.
func (r *Requests) Count(ctx context.Context, address string) (end func(), err error) {
	key := addressKey(address)
	state, err := r.requests.Increment(ctx, key, 1)
	if err != nil {
		return nil, fmt.Errorf("count of requests: %w", err)
	}
	if state.Reached {
		return nil, &LimitedError{RetryAfter: wait(state.Reset, r.now())}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.underWay[key] >= maxAddressUnderWay {
		return nil, ErrUnderWay
	}
	r.underWay[key]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.leave(key)
	}, nil
}

// leave ends what is under way for a key. The caller holds the lock.
func (r *Requests) leave(key string) {
	if r.underWay[key]--; r.underWay[key] <= 0 {
		delete(r.underWay, key)
	}
}

// Begin lets a request begin. The caller ends it, once. Errors: a *LimitedError when the session or
// its user have no requests left beside those of the session that are under way; or, where too many
// requests of the session have not proved it alive, when the address has none; ErrUnderWay.
func (r *Requests) Begin(ctx context.Context, q Request) (*Begun, error) {
	b := &Begun{requests: r, Request: q, ctx: context.WithoutCancel(ctx)} // a client that hangs up is counted, too
	unproved, err := r.peek(ctx, counter{r.unproved, unprovedKey(q.Session)})
	if err != nil {
		return nil, err
	}
	if used(unproved) >= min(maxUnproved, unproved.Limit) {
		tokens, err := r.peek(ctx, counter{r.requests, tokensKey(q.Address)})
		if err != nil {
			return nil, err
		}
		if tokens.Remaining <= 0 {
			return nil, &LimitedError{RetryAfter: wait(tokens.Reset, r.now())}
		}
	}
	b.suspect = used(unproved) > 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.admit(ctx, b); err != nil {
		return nil, err
	}
	for _, key := range b.underWay {
		r.underWay[key]++
	}
	return b, nil
}

// admit decides what a request is under way for, and whether there is room for it.
func (r *Requests) admit(ctx context.Context, b *Begun) error {
	own, most := b.budgets()[0], sessionShare(maxUserUnderWay)
	if b.Security {
		most = maxSecurityUnderWay
	}
	if r.underWay[own.key] >= most {
		return ErrUnderWay
	}
	// A session that has not proved alive lately fills no places of the user that it claims.
	shared, mostShared := tokensKey(b.Address), int64(maxTokensUnderWay)
	for _, budget := range b.budgets() {
		state, err := r.peek(ctx, budget)
		if err != nil {
			return err
		}
		if state.Remaining <= r.underWay[own.key] {
			return &LimitedError{RetryAfter: wait(state.Reset, r.now())}
		}
		if budget.key == own.key && used(state) > 0 {
			shared, mostShared = userKey(b.User), maxUserUnderWay
		}
	}
	if b.underWay = []string{own.key}; b.Security {
		return nil // they have their own places
	}
	if r.underWay[shared] >= mostShared {
		return ErrUnderWay
	}
	b.underWay = append(b.underWay, shared)
	return nil
}

// Begun is a request that is under way.
type Begun struct {
	Request
	requests *Requests
	// ctx is of the request, without its end.
	ctx context.Context
	// suspect: requests of the session have proved nothing lately.
	suspect bool
	// underWay are the keys that the request is under way for.
	underWay []string
}

// budgets are the counters of a request that proves its session alive, that of the session first.
func (b *Begun) budgets() []counter {
	if b.Security {
		return []counter{{b.requests.security, "security:" + b.Session}}
	}
	return []counter{{b.requests.session, "session:" + b.Session}, {b.requests.requests, userKey(b.User)}}
}

// End counts the request: for its user and session if it has proved the session alive, for its
// address if it has not.
func (b *Begun) End(o Outcome) (err error) {
	r := b.requests
	// Counted and no more under way in one step, so that no request in between sees neither.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range b.underWay {
		r.leave(key)
	}
	switch o {
	case Proved:
		err = r.countProved(b)
	case Unproved:
		if _, err = r.requests.Increment(b.ctx, tokensKey(b.Address), 1); err == nil {
			_, err = r.unproved.Increment(b.ctx, unprovedKey(b.Session), 1)
		}
	case Unknown:
	}
	if err != nil {
		return fmt.Errorf("count of requests: %w", err)
	}
	return nil
}

// countProved also counts for the user what a session asked before it proved alive: otherwise
// unauthenticated requests would be free.
func (r *Requests) countProved(b *Begun) error {
	before := int64(0)
	if b.suspect {
		unproved, err := r.unproved.Peek(b.ctx, unprovedKey(b.Session))
		if err == nil {
			before = used(unproved)
			_, err = r.unproved.Reset(b.ctx, unprovedKey(b.Session))
		}
		if err != nil {
			return err
		}
	}
	for _, budget := range b.budgets() {
		if _, err := budget.limiter.Increment(b.ctx, budget.key, 1+before); err != nil {
			return err
		}
	}
	return nil
}

func (r *Requests) peek(ctx context.Context, c counter) (limiter.Context, error) {
	state, err := c.limiter.Peek(ctx, c.key)
	if err != nil {
		return state, fmt.Errorf("count of requests: %w", err)
	}
	return state, nil
}

func used(c limiter.Context) int64 { return c.Limit - c.Remaining }

func userKey(user string) string        { return "user:" + user }
func addressKey(address string) string  { return "address:" + clientaddress.Network(address) }
func unprovedKey(session string) string { return "unproved:" + session }

// tokensKey is of requests with a token whose session proves nothing. They take nothing from
// clients at the address that have no token yet and want to log in.
func tokensKey(address string) string { return "tokens:" + clientaddress.Network(address) }
