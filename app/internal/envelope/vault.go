package envelope

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// vaultName is the prefix of keys that Vault Transit wraps.
const vaultName = "vault"

// Vault is a KeyProvider that uses HashiCorp Vault Transit with a derived aes256-gcm96 key.
//
// Vault's rewrap accepts no associated data, but it does accept a derivation context, and fails
// with a wrong one. So the context binds each owner key to its place. See
// https://developer.hashicorp.com/vault/api-docs/secret/transit.
type Vault struct {
	session    *vault.Session
	mount, key string
}

// NewVault returns a provider for the configured key.
func NewVault(session *vault.Session, c config.Vault) *Vault {
	return &Vault{session: session, mount: c.TransitMount, key: c.TransitKey}
}

// Wrap implements KeyProvider.
func (v *Vault) Wrap(ctx context.Context, items []RawItem) ([]WrapResult, error) {
	input := make([]batchItem, len(items))
	for i, item := range items {
		input[i] = batchItem{Plaintext: item.Raw, Context: item.Derivation}
	}
	return v.wrappings(ctx, "encrypt", input)
}

// Unwrap implements KeyProvider.
func (v *Vault) Unwrap(ctx context.Context, items []WrappedItem) ([]UnwrapResult, error) {
	answers, err := v.batch(ctx, "decrypt", batchInput(items))
	if err != nil {
		return nil, err
	}
	results := make([]UnwrapResult, len(items))
	for i, answer := range answers {
		results[i] = UnwrapResult{Raw: answer.Plaintext, Err: answer.refused()}
	}
	return results, nil
}

// Rewrap implements KeyProvider.
func (v *Vault) Rewrap(ctx context.Context, items []WrappedItem) ([]WrapResult, error) {
	return v.wrappings(ctx, "rewrap", batchInput(items))
}

func (v *Vault) wrappings(ctx context.Context, operation string, input []batchItem) ([]WrapResult, error) {
	answers, err := v.batch(ctx, operation, input)
	if err != nil {
		return nil, err
	}
	results := make([]WrapResult, len(input))
	for i, answer := range answers {
		results[i].Wrapped, results[i].Err = answer.wrapped()
	}
	return results, nil
}

func batchInput(items []WrappedItem) []batchItem {
	input := make([]batchItem, len(items))
	for i, item := range items {
		input[i] = batchItem{Ciphertext: &items[i].Wrapped, Context: item.Derivation}
	}
	return input
}

// batch sends many items to Vault in one request. The error of an item is in its result and does
// not fail the others.
func (v *Vault) batch(ctx context.Context, operation string, input []batchItem) ([]batchAnswer, error) {
	var answers []batchAnswer
	err := v.session.Call(ctx, operation+" with transit key "+v.key, func(ctx context.Context, client *api.Client) error {
		request := client.NewRequest(http.MethodPut, "/v1/"+v.mount+"/"+operation+"/"+v.key)
		if err := request.SetJSONBody(batchRequest{Items: input, PartialFailure: http.StatusOK}); err != nil {
			return err
		}
		// Logical().WriteRaw loses the body when Vault redirects, and Write gives keys as strings.
		response, err := client.RawRequestWithContext(ctx, request) //nolint:staticcheck // deprecated in favour of the former
		answers, err = readBatch(response, err, len(input))
		return err
	})
	return answers, providerError(err)
}

// providerError translates errors of package vault into those of this package.
func providerError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, vault.ErrSealed):
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrVaultSealed, err)
	case errors.Is(err, vault.ErrUnavailable):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case errors.Is(err, vault.ErrDenied):
		return fmt.Errorf("%w: %w", ErrDenied, err)
	case errors.Is(err, vault.ErrInvalid), errors.Is(err, vault.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrRefused, err)
	default:
		return err
	}
}
