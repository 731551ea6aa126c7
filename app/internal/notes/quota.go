package notes

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

const (
	// countFor is how long a count of what an owner has is relied on.
	countFor = time.Minute
	// countPause is the least time between two counts for one owner. It is countShare times what the
	// last count took, where that is longer: a user with many notes must not keep the database busy by
	// asking for more.
	countPause = time.Second
	countShare = 10
	// maxCounted bounds how many owners' counts are kept.
	maxCounted = 10_000
)

// Usage is what a user has stored, or may store.
type Usage struct {
	Notes int64
	// Bytes of content, title and tags as they are stored, which is sealed, and IdempotencyKeyBytes for each
	// idempotency key.
	Bytes int64
}

func (u *Usage) add(other Usage, times int64) {
	u.Notes += times * other.Notes
	u.Bytes += times * other.Bytes
}

// QuotaError means that a write would exceed what its user may store.
type QuotaError struct{ Message string }

func (e *QuotaError) Error() string { return e.Message }

// exceeds returns the error of a write of so much more, if it would exceed the limit. A write that
// needs no more notes is not refused because of their number.
func (u Usage) exceeds(limit, more Usage) error {
	switch {
	case more.Notes > 0 && u.Notes+more.Notes > limit.Notes:
		return &QuotaError{fmt.Sprintf("You have %d notes, and the limit is %d; delete some first", u.Notes, limit.Notes)}
	case u.Bytes+more.Bytes > limit.Bytes:
		return &QuotaError{fmt.Sprintf("Your notes and idempotency keys take %d bytes, this needs %d more, and the limit is %d; delete some notes first",
			u.Bytes, more.Bytes, limit.Bytes)}
	}
	return nil
}

// quota bounds what each user stores. It counts in the database once in a while and adds what this
// process writes meanwhile, so that no write has to lock a row that others need. Writes of other
// processes count with the next count.
type quota struct {
	store Store
	limit Usage
	now   func() time.Time

	mu     sync.Mutex
	owners map[string]*counted
}

// counted is what one owner has.
type counted struct {
	// calls is how many calls use it; it is guarded by the quota's mutex.
	calls int
	// turn guards what follows. A call that waits for a count gives up when its context ends.
	turn chan struct{}
	// at is when used was counted; zero: never. The next count comes after pause at the earliest.
	at    time.Time
	pause time.Duration
	// used includes underway, which is reserved for writes whose outcome is open.
	used, underway Usage
}

func newQuota(store Store, limit Usage) *quota {
	return &quota{store: store, limit: limit, now: time.Now, owners: map[string]*counted{}}
}

// reserve sets so much more aside for a write, which calls settle when it has ended, with whether
// it may have been stored. A write is refused only after a count that is younger than the call.
// Errors: sessions.ErrInvalid, *QuotaError, ctx's, and the store's.
func (q *quota) reserve(ctx context.Context, id sessions.Identity, more Usage) (settle func(stored bool), err error) {
	called := q.now()
	c := q.enter(id.Owner)
	defer func() {
		if err != nil {
			q.leave(c)
		}
	}()
	for {
		wait, reserved, err := q.try(ctx, id, c, more, called)
		switch {
		case err != nil:
			return nil, err
		case reserved:
			return func(stored bool) { q.settle(c, more, stored) }, nil
		}
		if err := pause(ctx, wait); err != nil {
			return nil, err
		}
	}
}

// try reserves, refuses, counts, or says how long to wait before the next try.
func (q *quota) try(ctx context.Context, id sessions.Identity, c *counted, more Usage, called time.Time) (wait time.Duration, reserved bool, err error) {
	select {
	case <-ctx.Done():
		return 0, false, ctx.Err()
	case c.turn <- struct{}{}:
	}
	defer func() { <-c.turn }()
	age := q.now().Sub(c.at)
	exceeded := c.used.exceeds(q.limit, more)
	switch {
	case age < countFor && exceeded == nil:
		c.used.add(more, 1)
		c.underway.add(more, 1)
		return 0, true, nil
	case age < countFor && !c.at.Before(called):
		// The refusal says what the user has: to a live session only.
		if _, err := q.store.ActiveKey(ctx, id, q.now()); err != nil {
			return 0, false, err
		}
		return 0, false, exceeded
	case age < min(c.pause, countFor):
		return c.pause - age, false, nil
	}
	return 0, false, q.count(ctx, id, c)
}

// count is called by who has the turn, so that no reservation begins or ends meanwhile.
func (q *quota) count(ctx context.Context, id sessions.Identity, c *counted) error {
	now := q.now()
	used, err := q.store.Usage(ctx, id, now)
	if err != nil {
		return err
	}
	// A write that is under way may have been counted: rather twice than not at all.
	used.add(c.underway, 1)
	c.at, c.pause, c.used = now, max(countPause, countShare*q.now().Sub(now)), used
	return nil
}

func (q *quota) settle(c *counted, more Usage, stored bool) {
	c.turn <- struct{}{}
	c.underway.add(more, -1)
	if !stored {
		c.used.add(more, -1)
	}
	<-c.turn
	q.leave(c)
}

func (q *quota) enter(owner string) *counted {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.owners[owner]
	if c == nil {
		if len(q.owners) >= maxCounted {
			q.forgetOne()
		}
		c = &counted{turn: make(chan struct{}, 1)}
		q.owners[owner] = c
	}
	c.calls++
	return c
}

// forgetOne forgets some owner's count that no call uses: the next write counts again.
func (q *quota) forgetOne() {
	for owner, c := range q.owners {
		if c.calls == 0 {
			delete(q.owners, owner)
			return
		}
	}
}

func (q *quota) leave(c *counted) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c.calls--
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// reserveUpdate is reserve for a note that is replaced: until the next count the old and the new
// one count. Where that is too much, the old one is looked at, and only what the note grows by is
// reserved. Errors: also ErrStale, when the note has another revision than n replaces.
func (s *Service) reserveUpdate(ctx context.Context, id sessions.Identity, n Sealed) (settle func(stored bool), err error) {
	settle, err = s.quota.reserve(ctx, id, Usage{Bytes: n.size()})
	var full *QuotaError
	if !errors.As(err, &full) {
		return settle, err
	}
	old, _, err := s.store.Note(ctx, id, s.now(), n.ID)
	if err != nil {
		return nil, err
	}
	if old.Revision != n.Revision-1 {
		// The update must not go on: the revision that it replaces, of unknown size, could still be
		// written.
		return nil, ErrStale
	}
	if grows := n.size() - old.size(); grows > 0 {
		return s.quota.reserve(ctx, id, Usage{Bytes: grows})
	}
	return func(bool) {}, nil
}
