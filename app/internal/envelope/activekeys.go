package envelope

import (
	"context"
	"errors"
	"fmt"
)

// maxSealAttempts bounds how often a write is sealed because its key was replaced meanwhile. A
// rotation replaces an owner's key once; more than that means that something is wrong.
const maxSealAttempts = 5

// ActiveKeys returns an owner's active key until a write with it succeeds. Only the database knows
// whether a key is still active when the write commits, so a write may need the next key:
//
//	keys := cache.ActiveKeys(owner, values, find)
//	for keys.Next(ctx) {
//		err := store(keys.Key().Seal(place, value))
//		if !errors.Is(err, ErrKeyNotActive) {
//			return err
//		}
//	}
//	return keys.Err()
type ActiveKeys struct {
	cache  *Cache
	owner  string
	values int64
	find   func(context.Context) (StoredKey, error)

	attempts int
	refused  bool
	key      *OwnerKey
	err      error
}

// ActiveKeys returns the owner's active keys for writes that seal up to the given number of values.
// find reads the row of the key that is active.
func (c *Cache) ActiveKeys(owner string, values int64, find func(context.Context) (StoredKey, error)) ActiveKeys {
	return ActiveKeys{cache: c, owner: owner, values: values, find: find}
}

// Next gets the active key for the next attempt. It reports false when there is none or after too
// many attempts; [ActiveKeys.Err] then returns why.
func (k *ActiveKeys) Next(ctx context.Context) bool {
	for k.attempts < maxSealAttempts {
		if k.attempts > 0 {
			k.cache.reserved.Remove(k.owner)
		}
		k.attempts++
		key, err := k.cache.takeSeals(ctx, k.owner, k.values, k.find)
		switch {
		case err == nil:
			k.key = key
			return true
		case errors.Is(err, errKeyReplaced):
		case errors.Is(err, ErrRefused) && !k.refused:
			k.refused = true // a rotation may have rewrapped the row since it was read
		default:
			k.err = err
			return false
		}
	}
	k.cache.reserved.Remove(k.owner)
	k.err = fmt.Errorf("owner %s: %w after %d attempts", k.owner, ErrKeyNotActive, maxSealAttempts)
	return false
}

// Key returns the key that the last call of Next found.
func (k *ActiveKeys) Key() *OwnerKey { return k.key }

// Err returns why Next reported false: an error of find, of the key provider or of the rows of
// keys, or ErrKeyNotActive.
func (k *ActiveKeys) Err() error { return k.err }
