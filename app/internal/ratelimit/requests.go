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
	// maxUnproved is how many unproved requests a session may send in a minute before the budget of
	// its address decides. A live client makes mistakes now and then, and shares its address with
	// others.
	maxUnproved = 10
	// maxUserInFlight bounds a user's requests in flight. maxTokensInFlight bounds those from
	// an address with tokens of sessions that were not proved live lately, and maxAddressInFlight
	// those without a token.
	maxUserInFlight, maxTokensInFlight, maxAddressInFlight = 64, 64, 20
	// securityPerMinute is the budget of a session for the calls by which its user defends the
	// account. maxSecurityInFlight bounds those in flight. No other request uses either of them.
	securityPerMinute, maxSecurityInFlight = 60, 16
)

// sessionShare returns the part of a user's budget that one session may use: three quarters, so
// that a stolen token leaves the user something.
func sessionShare(n int64) int64 { return n - n/4 }

// ErrTooManyInFlight means that a user, a session or an address has too many requests in flight.
var ErrTooManyInFlight = errors.New("too many requests in flight")

// Requests counts requests by user and session, or by address if the user is unknown. Each replica
// counts its own: a shared counter would cost a database write for every request. It is safe for
// concurrent use.
//
// A token does not identify a user until a request has proved its session live: the session may
// have ended, and a thief must not use up the user's budget. So a request counts for the user when
// it has ended and proved its session live. Until then it counts only against the same session.
type Requests struct {
	// requests counts the requests of users and of addresses.
	requests, session, security *limiter.Limiter
	// unproved counts the requests of a session since the last one that proved it live.
	unproved *limiter.Limiter
	now      func() time.Time

	mu sync.Mutex
	// inFlight are the requests that have begun and are not counted yet: by the key of their
	// session's budget, and by the user's key if the session was proved live lately, otherwise by
	// the address's.
	inFlight map[string]int64
}

// Request is a request with a token.
type Request struct {
	User, Session, Address string
	// Security is set for the calls by which users defend their account: they end sessions, or
	// change the password or the second factor.
	Security bool
}

// Outcome is what a request has shown of its session.
type Outcome int

const (
	// Unknown means that a part of the service was unavailable, so that the session was not
	// checked. The request does not count.
	Unknown Outcome = iota
	// Proved means that the session is live.
	Proved
	// Unproved means that the session has ended, or that the request was wrong in a way that needed
	// no check of the session.
	Unproved
)

// NewRequests returns a counter that allows each user, and each address, perMinute requests a
// minute.
func NewRequests(perMinute int) *Requests {
	store := memory.NewStore()
	limit := func(n int64) *limiter.Limiter {
		return limiter.New(store, limiter.Rate{Period: time.Minute, Limit: n})
	}
	n := int64(perMinute)
	return &Requests{
		requests: limit(n), session: limit(sessionShare(n)), security: limit(securityPerMinute), unproved: limit(n),
		now: time.Now, inFlight: map[string]int64{},
	}
}

// Count counts one request of an address, which is in flight until end is called. Errors:
// *LimitedError, ErrTooManyInFlight.
func (r *Requests) Count(ctx context.Context, address string) (end func(), err error) {
	key := addressKey(address)
	state, err := r.requests.Increment(ctx, key, 1)
	if err != nil {
		return nil, fmt.Errorf("count of requests: %w", err)
	}
	if state.Reached {
		return nil, &LimitedError{RetryAfter: retryAfter(state.Reset, r.now())}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.inFlight[key] >= maxAddressInFlight {
		return nil, ErrTooManyInFlight
	}
	r.inFlight[key]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.endInFlight(key)
	}, nil
}

// endInFlight ends a request in flight for a key. The caller holds the lock.
func (r *Requests) endInFlight(key string) {
	if r.inFlight[key]--; r.inFlight[key] <= 0 {
		delete(r.inFlight, key)
	}
}

// Begin begins a request, which the caller ends once. Errors: *LimitedError when the session or its
// user has no budget left beyond the requests in flight, or when the session has sent too many
// unproved requests and its address has no budget left; ErrTooManyInFlight.
func (r *Requests) Begin(ctx context.Context, q Request) (*Begun, error) {
	b := &Begun{requests: r, Request: q, ctx: context.WithoutCancel(ctx)} // a client that disconnects is counted, too
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
			return nil, &LimitedError{RetryAfter: retryAfter(tokens.Reset, r.now())}
		}
	}
	b.suspect = used(unproved) > 0
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.admit(ctx, b); err != nil {
		return nil, err
	}
	for _, key := range b.inFlight {
		r.inFlight[key]++
	}
	return b, nil
}

// admit checks the budgets of a request and sets the keys for which it is in flight. The caller
// holds the lock.
func (r *Requests) admit(ctx context.Context, b *Begun) error {
	own, most := b.budgets()[0], sessionShare(maxUserInFlight)
	if b.Security {
		most = maxSecurityInFlight
	}
	if r.inFlight[own.key] >= most {
		return ErrTooManyInFlight
	}
	// A session that was not proved live lately does not count against the user that it claims.
	shared, mostShared := tokensKey(b.Address), int64(maxTokensInFlight)
	for _, budget := range b.budgets() {
		state, err := r.peek(ctx, budget)
		if err != nil {
			return err
		}
		if state.Remaining <= r.inFlight[own.key] {
			return &LimitedError{RetryAfter: retryAfter(state.Reset, r.now())}
		}
		if budget.key == own.key && used(state) > 0 {
			shared, mostShared = userKey(b.User), maxUserInFlight
		}
	}
	if b.inFlight = []string{own.key}; b.Security {
		return nil // these have a bound of their own
	}
	if r.inFlight[shared] >= mostShared {
		return ErrTooManyInFlight
	}
	b.inFlight = append(b.inFlight, shared)
	return nil
}

// Begun is a request in flight.
type Begun struct {
	Request
	requests *Requests
	// ctx is the request's context without its cancellation.
	ctx context.Context
	// suspect means that the session has sent unproved requests lately.
	suspect bool
	// inFlight are the keys for which the request is in flight.
	inFlight []string
}

// budgets returns the counters of a request that proves its session live, the session's first.
func (b *Begun) budgets() []counter {
	if b.Security {
		return []counter{{b.requests.security, "security:" + b.Session}}
	}
	return []counter{{b.requests.session, "session:" + b.Session}, {b.requests.requests, userKey(b.User)}}
}

// End counts the request: for its user and session if it has proved the session live, and for its
// address if it has not.
func (b *Begun) End(o Outcome) (err error) {
	r := b.requests
	// One step under the lock, so that no other request finds it neither in flight nor counted.
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, key := range b.inFlight {
		r.endInFlight(key)
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

// countProved also counts the unproved requests that the session sent before: otherwise they would
// be free.
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

// tokensKey is the key of unproved requests with a token. They use no budget of clients at the same
// address that have no token yet and want to log in.
func tokensKey(address string) string { return "tokens:" + clientaddress.Network(address) }
