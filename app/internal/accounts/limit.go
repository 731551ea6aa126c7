package accounts

import (
	"context"
	"sync"
	"time"
)

const (
	// countTTL is how long a count of the accounts is relied on, and countInterval the shortest
	// time between two counts.
	countTTL      = 10 * time.Second
	countInterval = time.Second
)

// accountLimit bounds the number of accounts. It counts them in the database now and then, and adds
// the registrations of this process since. Those of other processes are included in the next count.
type accountLimit struct {
	store Store
	limit int64

	mu        sync.Mutex
	countedAt time.Time
	// accounts includes pending, the registrations that have not ended.
	accounts, pending int64
}

// reserve reserves an account. The caller calls release when the registration has ended. Errors:
// ErrTooManyAccounts, and the database's.
func (l *accountLimit) reserve(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if age := time.Since(l.countedAt); age >= countTTL || l.accounts >= l.limit && age >= countInterval {
		now := time.Now()
		stored, err := l.store.CountUsers(ctx)
		if err != nil {
			return err
		}
		// A pending registration may be in the count already: counting it twice is safe.
		l.countedAt, l.accounts = now, stored+l.pending
	}
	if l.accounts >= l.limit {
		return ErrTooManyAccounts
	}
	l.accounts++
	l.pending++
	return nil
}

// release ends a reservation. The account stays counted if it was created.
func (l *accountLimit) release(created bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending--
	if !created {
		l.accounts--
	}
}
