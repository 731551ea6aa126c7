package deployment

import (
	"context"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// Guarded is the key provider of a process that serves for a long time: a new owner key that it has wrapped is
// given out only when the master key still opens the database's canary. Vault may have been restored to an earlier state since
// the process started, and a version may have been added there by hand. It has the number of a version that was
// lost, so that the fence lets it pass, and what is wrapped under it opens no more when the newer Vault is back.
type Guarded struct {
	envelope.KeyProvider
	Store *store.Store
	// Keys are of the same provider.
	Keys *envelope.Keyring
}

// Wrap implements envelope.KeyProvider. Error: ErrWrongKey, too.
func (g Guarded) Wrap(ctx context.Context, items []envelope.RawItem) ([]envelope.WrapResult, error) {
	wrapped, err := g.KeyProvider.Wrap(ctx, items)
	if err != nil {
		return nil, err
	}
	meta, err := g.Store.Meta(ctx)
	if err != nil {
		return nil, err
	}
	if err := OpenCanary(ctx, g.Keys, meta); err != nil {
		return nil, err
	}
	return wrapped, nil
}
