package envelope

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
	"golang.org/x/sync/singleflight"
)

const (
	// cacheSize bounds how many owner keys one process holds, about 1 KiB each.
	cacheSize = 65_536
	// CacheTTL is for how long an owner key serves without asking the provider: also for how long
	// notes stay readable when it is away, and for how long a revoked master key goes unnoticed.
	CacheTTL = 5 * time.Minute
	// unwrapTimeout bounds an unwrap that several callers wait for.
	unwrapTimeout = 10 * time.Second
)

// Cache keeps unwrapped owner keys. It never keeps an error. It is safe for concurrent use.
type Cache struct {
	keyring *Keyring
	keys    *expirable.LRU[cacheKey, *OwnerKey]
	active  *expirable.LRU[string, *OwnerKey]
	flights singleflight.Group
}

type cacheKey struct{ owner, id string }

// NewCache returns an empty cache over the keyring.
func NewCache(keyring *Keyring) *Cache {
	return &Cache{
		keyring: keyring,
		keys:    expirable.NewLRU[cacheKey, *OwnerKey](cacheSize, nil, CacheTTL),
		active:  expirable.NewLRU[string, *OwnerKey](cacheSize, nil, CacheTTL),
	}
}

// Key returns the owner key of a committed row, unwrapping it when it is not cached. Callers that
// ask for the same key at the same moment share one call of the provider, and none of them loses
// it when another one's request is cancelled.
func (c *Cache) Key(ctx context.Context, stored StoredKey) (*OwnerKey, error) {
	at := cacheKey{stored.Owner, stored.ID}
	if key, ok := c.keys.Get(at); ok {
		return key, nil
	}
	// The wrapped text is part of the flight's name: a caller who read a newer row must not be
	// given the failure of an older wrapping.
	flight := c.flights.DoChan(stored.Owner+"/"+stored.ID+"/"+string(stored.Wrapped), func() (any, error) {
		// The flight before may have ended between our look into the cache and this one's start.
		if key, ok := c.keys.Get(at); ok {
			return key, nil
		}
		detached, cancel := context.WithTimeout(context.WithoutCancel(ctx), unwrapTimeout)
		defer cancel()
		key, err := c.keyring.Unwrap(detached, stored)
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

// Active returns the owner's active key as far as this process knows. The database has the last
// word: a write says which key it sealed with, and is refused if that is no longer active.
func (c *Cache) Active(owner string) (*OwnerKey, bool) { return c.active.Get(owner) }

// SetActive unwraps the key of a committed row and remembers it as the owner's active one.
func (c *Cache) SetActive(ctx context.Context, stored StoredKey) (*OwnerKey, error) {
	key, err := c.Key(ctx, stored)
	if err != nil {
		return nil, err
	}
	c.active.Add(stored.Owner, key)
	return key, nil
}

// ForgetActive makes the next write of the owner ask the database which key is active.
func (c *Cache) ForgetActive(owner string) { c.active.Remove(owner) }
