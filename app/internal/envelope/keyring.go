package envelope

import (
	"context"
	"fmt"
	"strings"

	"crypto/rand"
)

// StoredKey is an owner key in its committed row.
type StoredKey struct {
	Owner, ID string
	Wrapped   Wrapped
}

// Keyring generates and unwraps the owner keys of one deployment.
type Keyring struct {
	deployment string
	provider   KeyProvider
}

// NewKeyring returns the keyring of a deployment.
func NewKeyring(deployment string, provider KeyProvider) *Keyring {
	return &Keyring{deployment: deployment, provider: provider}
}

// NewID returns a random 128-bit id for an owner key. A counter would not do: a second process, a
// failover or a restored database could give the same value to another key.
func NewID() string { return strings.ToLower(rand.Text()) }

// Generate returns a new owner key, wrapped. It does not return the raw bytes, because values are
// sealed only with a key that was unwrapped from its committed row.
func (r *Keyring) Generate(ctx context.Context, owner string) (StoredKey, error) {
	keys, err := r.GenerateAll(ctx, []string{owner})
	if err != nil {
		return StoredKey{}, err
	}
	return keys[0], nil
}

// GenerateAll returns a new owner key for each owner, in the same order, with one call of the
// provider.
func (r *Keyring) GenerateAll(ctx context.Context, owners []string) ([]StoredKey, error) {
	keys, items := make([]StoredKey, len(owners)), make([]RawItem, len(owners))
	for i, owner := range owners {
		keys[i] = StoredKey{Owner: owner, ID: NewID()}
		items[i] = RawItem{Raw: newRawKey(), Derivation: r.ref(keys[i]).context()}
		defer clear(items[i].Raw)
	}
	results, err := r.provider.Wrap(ctx, items)
	if err != nil {
		return nil, fmt.Errorf("wrap new owner keys: %w", err)
	}
	for i, result := range results {
		if result.Err != nil {
			return nil, fmt.Errorf("wrap a new owner key: %w", result.Err)
		}
		keys[i].Wrapped = result.Wrapped
	}
	return keys, nil
}

// Unwrap returns the owner key of one committed row.
func (r *Keyring) Unwrap(ctx context.Context, stored StoredKey) (*OwnerKey, error) {
	keys, err := r.UnwrapAll(ctx, []StoredKey{stored})
	if err != nil {
		return nil, err
	}
	return keys[0].Key, keys[0].Err
}

// UnwrappedKey is one result of UnwrapAll.
type UnwrappedKey struct {
	Key *OwnerKey
	Err error
}

// UnwrapAll unwraps many keys with one call of the provider. The results are in the same order.
func (r *Keyring) UnwrapAll(ctx context.Context, stored []StoredKey) ([]UnwrappedKey, error) {
	results, err := r.provider.Unwrap(ctx, r.items(stored))
	if err != nil {
		return nil, fmt.Errorf("unwrap owner keys: %w", err)
	}
	keys := make([]UnwrappedKey, len(stored))
	for i, result := range results {
		if result.Err != nil {
			keys[i].Err = fmt.Errorf("unwrap owner key %s: %w", stored[i].ID, result.Err)
			continue
		}
		keys[i].Key, keys[i].Err = newOwnerKey(r.ref(stored[i]), result.Raw)
	}
	return keys, nil
}

// Rewrap moves keys to the master key's latest version. The results are in the same order.
func (r *Keyring) Rewrap(ctx context.Context, stored []StoredKey) ([]WrapResult, error) {
	results, err := r.provider.Rewrap(ctx, r.items(stored))
	if err != nil {
		return nil, fmt.Errorf("rewrap owner keys: %w", err)
	}
	return results, nil
}

func (r *Keyring) ref(k StoredKey) KeyRef {
	return KeyRef{Deployment: r.deployment, Owner: k.Owner, ID: k.ID}
}

func (r *Keyring) items(stored []StoredKey) []WrappedItem {
	items := make([]WrappedItem, len(stored))
	for i, k := range stored {
		items[i] = WrappedItem{Wrapped: k.Wrapped, Derivation: r.ref(k).context()}
	}
	return items
}
