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

// errKeyReplaced means that the owner's active key was replaced while seals were being reserved, so
// its row must be read again.
var errKeyReplaced = errors.New("the owner key has just been replaced")

// KeyRows stores the rows of owner keys.
type KeyRows interface {
	// CountSeals adds n to the number of values that the key has sealed, and returns the sum.
	// Error: ErrKeyNotActive, if the key was deleted.
	CountSeals(ctx context.Context, key StoredKey, n int64) (int64, error)
	// SucceedKey replaces key by next, if key still is the owner's active key.
	SucceedKey(ctx context.Context, key, next StoredKey, now time.Time) error
}

// Cache caches unwrapped owner keys, and no errors. It is safe for concurrent use.
type Cache struct {
	keyring *Keyring
	rows    KeyRows
	keys    *expirable.LRU[cacheKey, *OwnerKey]
	// reserved holds the seals that are reserved for this process, by owner.
	reserved *expirable.LRU[string, *reservedSeals]
	flights  singleflight.Group
	unwraps  *batch.Group[StoredKey, *OwnerKey]
	maxSeals int64
}

type cacheKey struct{ owner, id string }

// reservedSeals are the seals that this process may make with the owner key that was active when it
// reserved them. The unwrapped key is only in Cache.keys, which expires it.
type reservedSeals struct {
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
		reserved: expirable.NewLRU[string, *reservedSeals](size, nil, ttl),
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

// takeSeals returns the owner's active key and takes seals from the reserved ones. If too few are
// left, it reserves others for the key that find returns. Error: also errKeyReplaced.
func (c *Cache) takeSeals(ctx context.Context, owner string, values int64, find func(context.Context) (StoredKey, error)) (*OwnerKey, error) {
	reserved, known := c.reserved.Get(owner)
	if !known || reserved.left.Add(-values) < 0 {
		stored, err := find(ctx)
		if err != nil {
			return nil, err
		}
		if reserved, err = c.reserveSeals(ctx, stored); err != nil {
			return nil, err
		}
		reserved.left.Add(-values)
		c.reserved.Add(owner, reserved)
	}
	return c.Key(ctx, reserved.stored)
}

// reserveSeals reserves seals of a key whose row is active. If the key has sealed enough, it
// replaces the key instead. Error: also errKeyReplaced.
func (c *Cache) reserveSeals(ctx context.Context, stored StoredKey) (*reservedSeals, error) {
	// Unwrap first: if it fails, no reserved seals are lost.
	if _, err := c.Key(ctx, stored); err != nil {
		return nil, err
	}
	seals, err := c.rows.CountSeals(ctx, stored, sealBlock)
	if errors.Is(err, ErrKeyNotActive) {
		return nil, errKeyReplaced // and deleted since find has read its row
	}
	if err != nil {
		return nil, err
	}
	if seals > c.maxSeals {
		if err := c.replaceKey(ctx, stored); err != nil {
			return nil, err
		}
		return nil, errKeyReplaced
	}
	reserved := &reservedSeals{stored: stored}
	reserved.left.Store(sealBlock)
	return reserved, nil
}

// replaceKey makes a new key the owner's active one in place of the stored key.
func (c *Cache) replaceKey(ctx context.Context, stored StoredKey) error {
	next, err := c.keyring.Generate(ctx, stored.Owner)
	if err != nil {
		return err
	}
	return c.rows.SucceedKey(ctx, stored, next, time.Now())
}
