package accounts

import (
	"context"
	"sync"
	"time"
)

const (
	// countFor is how long a count of the accounts is relied on, and countPause the least time between
	// two.
	countFor   = 10 * time.Second
	countPause = time.Second
)

// bound is how many accounts there may be. It counts them once in a while and adds the
// registrations of this process meanwhile; those of others count with the next count.
type bound struct {
	store Store
	most  int64

	mu sync.Mutex
	at time.Time
	// accounts includes underway, the registrations whose outcome is open.
	accounts, underway int64
}

// take sets aside an account, for which settle is to be called. Errors: ErrTooManyAccounts, and the
// database's.
func (b *bound) take(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if age := time.Since(b.at); age >= countFor || b.accounts >= b.most && age >= countPause {
		now := time.Now()
		stored, err := b.store.CountUsers(ctx)
		if err != nil {
			return err
		}
		// One that is under way may have been counted: rather twice than not at all.
		b.at, b.accounts = now, stored+b.underway
	}
	if b.accounts >= b.most {
		return ErrTooManyAccounts
	}
	b.accounts++
	b.underway++
	return nil
}

// settle ends what take began.
func (b *bound) settle(created bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underway--
	if !created {
		b.accounts--
	}
}
