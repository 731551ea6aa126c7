package deployment

import (
	"context"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// GuardedKeyring returns the keyring of a long-running process. It returns what it has wrapped only
// if the master key still opens the database's canary, and ErrWrongKey otherwise.
//
// Vault may have been restored to an earlier state since the process started, and a version may
// have been added there by hand. That version has the number of a lost one, so the fence accepts
// it, and what it wraps no longer opens once the newer Vault is back. The canary cannot tell two
// versions above its own apart. Therefore a rotation moves the canary first.
func GuardedKeyring(id string, provider envelope.KeyProvider, db MetaReader) *envelope.Keyring {
	return envelope.NewKeyring(id, guarded{KeyProvider: provider, store: db, keys: envelope.NewKeyring(id, provider)})
}

type guarded struct {
	envelope.KeyProvider
	store MetaReader
	// keys use the same provider, without this check.
	keys *envelope.Keyring
}

// Wrap implements envelope.KeyProvider.
func (g guarded) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	wrapped, err := g.KeyProvider.Wrap(ctx, items)
	return g.checked(ctx, wrapped, err)
}

// Rewrap implements envelope.KeyProvider.
func (g guarded) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	wrapped, err := g.KeyProvider.Rewrap(ctx, items)
	return g.checked(ctx, wrapped, err)
}

// checked opens the canary after the wrapping: an earlier check would miss a change in between.
func (g guarded) checked(ctx context.Context, wrapped []envelope.WrapResult, err error) ([]envelope.WrapResult, error) {
	if err != nil {
		return nil, err
	}
	meta, err := g.store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	if err := OpenCanary(ctx, g.keys, meta); err != nil {
		return nil, err
	}
	return wrapped, nil
}
