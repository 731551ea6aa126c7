package envelope

import (
	"bytes"
	"context"
	"fmt"
)

// RawKey is an owner key that no master key protects. Only an escrow contains such keys, encrypted
// to the escrow's own recipients. Whoever has a RawKey clears it after use.
type RawKey struct {
	Owner, ID string
	Raw       []byte
}

// Clear overwrites the key.
func (k RawKey) Clear() { clear(k.Raw) }

// Export unwraps the owner keys of committed rows with one call of the provider. The results are in
// the same order, and the caller clears them. It returns none if one key does not unwrap, because
// an escrow that lacks a key would not restore.
func (r *Keyring) Export(ctx context.Context, stored []StoredKey) ([]RawKey, error) {
	results, err := r.provider.Unwrap(ctx, r.items(stored))
	if err != nil {
		return nil, fmt.Errorf("unwrap owner keys: %w", err)
	}
	keys := make([]RawKey, len(stored))
	for i, result := range results {
		keys[i] = RawKey{Owner: stored[i].Owner, ID: stored[i].ID, Raw: result.Raw}
		if result.Err == nil && len(result.Raw) != keySize {
			result.Err = fmt.Errorf("%d bytes, not %d", len(result.Raw), keySize)
		}
		if result.Err != nil && err == nil {
			err = fmt.Errorf("unwrap owner key %s of owner %s: %w", stored[i].ID, stored[i].Owner, result.Err)
		}
	}
	if err != nil {
		for _, key := range keys {
			key.Clear()
		}
		return nil, err
	}
	return keys, nil
}

// Import wraps raw owner keys under the latest version of the master key with one call of the
// provider, each for the row that it is stored in. The results are in the same order. The caller
// clears the raw keys.
func (r *Keyring) Import(ctx context.Context, keys []RawKey) ([]StoredKey, error) {
	stored, items := make([]StoredKey, len(keys)), make([]RawItem, len(keys))
	for i, key := range keys {
		if len(key.Raw) != keySize {
			return nil, fmt.Errorf("owner key %s of owner %s: %d bytes, not %d", key.ID, key.Owner, len(key.Raw), keySize)
		}
		stored[i] = StoredKey{Owner: key.Owner, ID: key.ID}
		items[i] = RawItem{Raw: key.Raw, Derivation: r.ref(stored[i]).context()}
	}
	results, err := r.provider.Wrap(ctx, items)
	if err != nil {
		return nil, fmt.Errorf("wrap owner keys again: %w", err)
	}
	for i, result := range results {
		if result.Err != nil {
			return nil, fmt.Errorf("wrap owner key %s of owner %s again: %w", stored[i].ID, stored[i].Owner, result.Err)
		}
		stored[i].Wrapped = result.Wrapped
	}
	return stored, nil
}

// Open returns the owner key of this deployment that raw is. The caller still clears raw.
func (r *Keyring) Open(raw RawKey) (*OwnerKey, error) {
	return newOwnerKey(r.ref(StoredKey{Owner: raw.Owner, ID: raw.ID}), bytes.Clone(raw.Raw))
}
