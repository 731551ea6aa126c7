package envelope

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"

	"github.com/securenotes/securenotes/app/internal/batch"
)

const (
	// cacheSize bounds how many owner keys one process holds, about 1 KiB each.
	cacheSize = 65_536
	// CacheTTL is how long an owner key is used without a call of the provider. So long do notes
	// stay readable while the provider is unavailable, and so long may a revoked master key go
	// unnoticed.
	CacheTTL = 5 * time.Minute
	// unwrapTimeout bounds an unwrapping that several callers wait for.
	unwrapTimeout = 10 * time.Second
	// unwrapBatch bounds the keys that one call of the provider unwraps, and unwrapParallel the
	// calls in progress.
	unwrapBatch, unwrapParallel = 256, 2
)

const (
	// maxSeals is how many values an owner key may seal before it is replaced: half of the 2^32
	// that NIST SP 800-38D, section 8.3, allows with random nonces.
	maxSeals = 1 << 31
	// sealBlock is how many seals a process reserves at a time, so that it does not record each.
	sealBlock = 4096
)

// ErrKeyNotActive means that a write was sealed with an owner key that is not active, or no longer.
var ErrKeyNotActive = errors.New("the owner key is not active")

// KeyRows stores the rows of owner keys.
type KeyRows interface {
	// CountSeals adds n to the number of values that the key has sealed, and returns the sum.
	// Error: ErrKeyNotActive, if the key was deleted.
	CountSeals(ctx context.Context, key StoredKey, n int64) (int64, error)
	// SucceedKey retires key and activates next, if key still is the owner's active key.
	SucceedKey(ctx context.Context, key, next StoredKey, now time.Time) error
}

// Cache caches unwrapped owner keys, and no errors. It is safe for concurrent use.
type Cache struct {
	keyring  *Keyring
	rows     KeyRows
	keys     *expirable.LRU[cacheKey, *OwnerKey]
	active   *expirable.LRU[string, *activeKey]
	flights  singleflight.Group
	unwraps  *batch.Group[StoredKey, *OwnerKey]
	maxSeals int64
}

type cacheKey struct{ owner, id string }

// activeKey names an owner's active key, as far as this process knows, and counts the seals that
// are left of the reserved ones. The key itself is in Cache.keys only, which expires it.
type activeKey struct {
	stored StoredKey
	left   atomic.Int64
}

// NewCache returns an empty cache over the keyring, for keys whose rows are in rows.
func NewCache(keyring *Keyring, rows KeyRows) *Cache {
	return newCache(keyring, rows, cacheSize, CacheTTL)
}

func newCache(keyring *Keyring, rows KeyRows, size int, ttl time.Duration) *Cache {
	c := &Cache{
		keyring:  keyring,
		rows:     rows,
		keys:     expirable.NewLRU[cacheKey, *OwnerKey](size, nil, ttl),
		active:   expirable.NewLRU[string, *activeKey](size, nil, ttl),
		maxSeals: maxSeals,
	}
	c.unwraps = batch.New(batch.Options{Most: unwrapBatch, Parallel: unwrapParallel, Timeout: unwrapTimeout}, nil, c.unwrap)
	return c
}

func (c *Cache) unwrap(ctx context.Context, stored []StoredKey) []batch.Result[*OwnerKey] {
	results := make([]batch.Result[*OwnerKey], len(stored))
	keys, err := c.keyring.UnwrapAll(ctx, stored)
	for i := range results {
		if err != nil {
			results[i].Err = err
		} else {
			results[i] = batch.Result[*OwnerKey]{Value: keys[i].Key, Err: keys[i].Err}
		}
	}
	return results
}

// Generate returns a new owner key, wrapped. See [Keyring.Generate].
func (c *Cache) Generate(ctx context.Context, owner string) (StoredKey, error) {
	return c.keyring.Generate(ctx, owner)
}

// Key returns the owner key of a committed row, unwrapping it when it is not cached. Concurrent
// callers of the same key share one unwrapping, and those of different keys share calls of the
// provider. None of them fails because another one's request is cancelled.
func (c *Cache) Key(ctx context.Context, stored StoredKey) (*OwnerKey, error) {
	at := cacheKey{stored.Owner, stored.ID}
	if key, ok := c.keys.Get(at); ok {
		return key, nil
	}
	// The wrapped text is part of the flight's name, so that a caller with a newer row does not get
	// the error of an older wrapping.
	flight := c.flights.DoChan(stored.Owner+"/"+stored.ID+"/"+string(stored.Wrapped), func() (any, error) {
		// A previous flight may have ended between the lookup and the start of this one.
		if key, ok := c.keys.Get(at); ok {
			return key, nil
		}
		key, err := c.unwraps.Do(context.WithoutCancel(ctx), stored)
		if err != nil {
			return nil, err
		}
		c.keys.Add(at, key)
		return key, nil
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("unwrap owner key %s: %w", stored.ID, ctx.Err())
	case result := <-flight:
		if result.Err != nil {
			return nil, result.Err
		}
		return result.Val.(*OwnerKey), nil
	}
}

// activeKey returns the owner's active key and reserves the seals. It returns nil if the row has
// changed and must be read again.
func (c *Cache) activeKey(ctx context.Context, owner string, values int64, find func(context.Context) (StoredKey, error)) (*OwnerKey, error) {
	active, known := c.active.Get(owner)
	if !known || active.left.Add(-values) < 0 {
		var err error
		if active, err = c.findActive(ctx, find); active == nil {
			return nil, err
		}
		active.left.Add(-values)
		c.active.Add(owner, active)
	}
	return c.Key(ctx, active.stored)
}

// findActive unwraps the key whose row is active, and reserves seals. It returns nil if the row has
// changed and must be read again, also when the key has sealed enough and was succeeded.
func (c *Cache) findActive(ctx context.Context, find func(context.Context) (StoredKey, error)) (*activeKey, error) {
	stored, err := find(ctx)
	if err != nil {
		return nil, err
	}
	// Unwrap first: if it fails, no reserved seals are lost.
	if _, err := c.Key(ctx, stored); err != nil {
		return nil, err
	}
	seals, err := c.rows.CountSeals(ctx, stored, sealBlock)
	if errors.Is(err, ErrKeyNotActive) {
		return nil, nil // deleted since it was found
	}
	if err != nil {
		return nil, err
	}
	if seals > c.maxSeals {
		next, err := c.keyring.Generate(ctx, stored.Owner)
		if err != nil {
			return nil, err
		}
		return nil, c.rows.SucceedKey(ctx, stored, next, time.Now())
	}
	key := &activeKey{stored: stored}
	key.left.Store(sealBlock)
	return key, nil
}
