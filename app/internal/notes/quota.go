package notes

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

const (
	// countTTL is how long a count of an owner's notes and bytes is cached.
	countTTL = time.Minute
	// countInterval is the shortest time between two counts for one owner. It is countCost times
	// the duration of the last count if that is longer: a user with many notes must not keep the
	// database busy by writing beyond the quota.
	countInterval = time.Second
	countCost     = 10
	// maxCounts bounds how many owners' counts are kept.
	maxCounts = 10_000
)

// Usage is what a user has stored, or may store.
type Usage struct {
	Notes int64
	// Bytes is the size of the sealed content, title and tags, plus IdempotencyKeyBytes for each
	// idempotency key.
	Bytes int64
}

func (u *Usage) add(other Usage) {
	u.Notes += other.Notes
	u.Bytes += other.Bytes
}

func (u *Usage) subtract(other Usage) {
	u.Notes -= other.Notes
	u.Bytes -= other.Bytes
}

// QuotaError means that a write would exceed what its user may store. Its message is for the user.
type QuotaError struct{ Message string }

func (e *QuotaError) Error() string { return e.Message }

// check returns a *QuotaError if needed does not fit into the limit beside u. The number of notes
// refuses only writes that add notes.
func (u Usage) check(limit, needed Usage) error {
	switch {
	case needed.Notes > 0 && u.Notes+needed.Notes > limit.Notes:
		return &QuotaError{fmt.Sprintf("You have %d notes, and the limit is %d; delete some first", u.Notes, limit.Notes)}
	case u.Bytes+needed.Bytes > limit.Bytes:
		return &QuotaError{fmt.Sprintf("Your notes and idempotency keys take %d bytes, this needs %d more, and the limit is %d; delete some notes first",
			u.Bytes, needed.Bytes, limit.Bytes)}
	}
	return nil
}

// quota bounds what each user stores. It counts in the database now and then, and adds what this
// process has written since, so that no write locks a row that others need. What other processes
// write is included in the next count.
type quota struct {
	store Store
	limit Usage
	now   func() time.Time

	mu     sync.Mutex
	counts map[string]*count
}

// count is the usage of one owner.
type count struct {
	// refs is how many calls use the count; the quota's mutex guards it.
	refs int
	// lock guards what follows. It is a channel because a call gives up waiting when its context
	// ends.
	lock chan struct{}
	// countedAt is when used was counted; zero means never.
	countedAt time.Time
	// interval is the shortest time until the next count.
	interval time.Duration
	// used includes pending, which is reserved for writes that have not ended.
	used, pending Usage
}

func newQuota(store Store, limit Usage) *quota {
	return &quota{store: store, limit: limit, now: time.Now, counts: map[string]*count{}}
}

// reservation is a part of a user's quota that is reserved for a write. A nil reservation reserves
// nothing.
type reservation struct {
	quota  *quota
	count  *count
	amount Usage
	// stored is whether the write may have stored something.
	stored bool
}

// unused notes that the write has stored nothing, so that release gives the amount back.
func (r *reservation) unused() {
	if r != nil {
		r.stored = false
	}
}

// release ends the reservation once the write has ended. The amount stays counted unless it is
// unused.
func (r *reservation) release() {
	if r == nil {
		return
	}
	r.count.lock <- struct{}{}
	r.count.pending.subtract(r.amount)
	if !r.stored {
		r.count.used.subtract(r.amount)
	}
	<-r.count.lock
	r.quota.leave(r.count)
}

// reserve reserves quota for a write; the caller releases it when the write has ended. It refuses
// only after a count that began after the call. Errors: sessions.ErrInvalid, *QuotaError, ctx's,
// and the store's.
func (q *quota) reserve(ctx context.Context, id sessions.Identity, amount Usage) (*reservation, error) {
	called := q.now()
	c := q.enter(id.Owner)
	for {
		reserved, wait, err := q.tryReserve(ctx, id, c, amount, called)
		if err == nil && !reserved {
			err = sleep(ctx, wait)
		}
		if err != nil {
			q.leave(c)
			return nil, err
		}
		if reserved {
			return &reservation{quota: q, count: c, amount: amount, stored: true}, nil
		}
	}
}

// tryReserve reserves, refuses, counts, or returns how long to wait before the next call.
func (q *quota) tryReserve(ctx context.Context, id sessions.Identity, c *count, amount Usage, called time.Time) (reserved bool, wait time.Duration, err error) {
	select {
	case <-ctx.Done():
		return false, 0, ctx.Err()
	case c.lock <- struct{}{}:
	}
	defer func() { <-c.lock }()
	age := q.now().Sub(c.countedAt)
	exceeded := c.used.check(q.limit, amount)
	switch {
	case age < countTTL && exceeded == nil:
		c.used.add(amount)
		c.pending.add(amount)
		return true, 0, nil
	case age < countTTL && !c.countedAt.Before(called):
		// The error tells what the user has stored, so the session must be live.
		if _, err := q.store.ActiveKey(ctx, id, q.now()); err != nil {
			return false, 0, err
		}
		return false, 0, exceeded
	case age < min(c.interval, countTTL):
		return false, c.interval - age, nil
	}
	return false, 0, q.countUsage(ctx, id, c)
}

// countUsage counts in the database. The caller holds c.lock, so that no reservation begins or ends
// meanwhile.
func (q *quota) countUsage(ctx context.Context, id sessions.Identity, c *count) error {
	now := q.now()
	used, err := q.store.Usage(ctx, id, now)
	if err != nil {
		return err
	}
	// A pending write may be in the count already: counting it twice is safe, missing it is not.
	used.add(c.pending)
	c.countedAt, c.interval, c.used = now, max(countInterval, countCost*q.now().Sub(now)), used
	return nil
}

// enter returns the owner's count, which stays in memory until the caller leaves it.
func (q *quota) enter(owner string) *count {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts[owner]
	if c == nil {
		if len(q.counts) >= maxCounts {
			q.evictOne()
		}
		c = &count{lock: make(chan struct{}, 1)}
		q.counts[owner] = c
	}
	c.refs++
	return c
}

func (q *quota) leave(c *count) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.refs--
}

// evictOne drops the count of an owner that no call uses. The owner's next write counts again.
func (q *quota) evictOne() {
	for owner, c := range q.counts {
		if c.refs == 0 {
			delete(q.counts, owner)
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
