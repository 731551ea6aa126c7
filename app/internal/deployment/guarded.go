package deployment

import (
	"context"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// GuardedKeyring is the keyring of a process that runs for a while: what it has wrapped is given out only when the
// master key still opens the database's canary, else the error is ErrWrongKey. Vault may have been restored to an earlier
// state since the process started, and a version may have been added there by hand. It has the number of a version
// that was lost, so that the fence lets it pass, and what is wrapped under it opens no more when the newer Vault is
// back. What the canary cannot tell apart are two versions above its own: a rotation moves it first.
func GuardedKeyring(id string, provider envelope.KeyProvider, db MetaReader) *envelope.Keyring {
	return envelope.NewKeyring(id, guarded{KeyProvider: provider, store: db, keys: envelope.NewKeyring(id, provider)})
}

type guarded struct {
	envelope.KeyProvider
	store MetaReader
	// keys are of the same provider.
	keys *envelope.Keyring
}

// Wrap implements envelope.KeyProvider.
func (g guarded) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	wrapped, err := g.KeyProvider.Wrap(ctx, items)
	return g.unlessReplaced(ctx, wrapped, err)
}

// Rewrap implements envelope.KeyProvider.
func (g guarded) Rewrap(ctx context.Context, items []envelope.WrappedItem) ([]envelope.WrapResult, error) {
	wrapped, err := g.KeyProvider.Rewrap(ctx, items)
	return g.unlessReplaced(ctx, wrapped, err)
}

// unlessReplaced asks after the wrapping: asked before, it would not show what has happened in between.
func (g guarded) unlessReplaced(ctx context.Context, wrapped []envelope.WrapResult, err error) ([]envelope.WrapResult, error) {
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
