package envelope

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/vault"
)

// vaultName begins what Vault Transit wraps.
const vaultName = "vault"

// Vault is the KeyProvider over HashiCorp Vault Transit with a derived aes256-gcm96 key.
//
// Vault's rewrap takes no associated data but does take the derivation context (a wrong one
// fails), so each owner key is bound to its place by that. See
// https://developer.hashicorp.com/vault/api-docs/secret/transit.
type Vault struct {
	session    *vault.Session
	mount, key string
}

// NewVault returns the provider for the key that the configuration names.
func NewVault(session *vault.Session, c config.Vault) *Vault {
	return &Vault{session: session, mount: c.TransitMount, key: c.TransitKey}
}

// Wrap implements KeyProvider.
func (v *Vault) Wrap(ctx context.Context, items []RawItem) ([]WrapResult, error) {
	input := make([]map[string]any, len(items))
	for i, item := range items {
		input[i] = map[string]any{
			"plaintext": base64.StdEncoding.EncodeToString(item.Raw),
			"context":   base64.StdEncoding.EncodeToString(item.Derivation),
		}
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
		if results[i].Err = answer.refused(); results[i].Err != nil {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(answer.plaintext)
		if err != nil {
			err = fmt.Errorf("%w: the answer is not base64", ErrRefused)
		}
		results[i] = UnwrapResult{Raw: raw, Err: err}
	}
	return results, nil
}

// Rewrap implements KeyProvider.
func (v *Vault) Rewrap(ctx context.Context, items []WrappedItem) ([]WrapResult, error) {
	return v.wrappings(ctx, "rewrap", batchInput(items))
}

func (v *Vault) wrappings(ctx context.Context, operation string, input []map[string]any) ([]WrapResult, error) {
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

func batchInput(items []WrappedItem) []map[string]any {
	input := make([]map[string]any, len(items))
	for i, item := range items {
		input[i] = map[string]any{
			"ciphertext": string(item.Wrapped),
			"context":    base64.StdEncoding.EncodeToString(item.Derivation),
		}
	}
	return input
}

// batchAnswer is Vault's answer for one item of a batch.
type batchAnswer struct {
	ciphertext, plaintext, failure string
}

func (a batchAnswer) refused() error {
	if a.failure != "" {
		return fmt.Errorf("%w: Vault says: %s", ErrRefused, a.failure)
	}
	return nil
}

func (a batchAnswer) wrapped() (Wrapped, error) {
	if err := a.refused(); err != nil {
		return "", err
	}
	w := Wrapped(a.ciphertext)
	if _, err := w.Version(); err != nil {
		return "", fmt.Errorf("Vault's answer: %w", err)
	}
	return w, nil
}

// batch asks Vault for many items in one request. An item's failure comes with the item
// (partial_failure_response_code), not as the failure of all.
func (v *Vault) batch(ctx context.Context, operation string, input []map[string]any) ([]batchAnswer, error) {
	var answers []batchAnswer
	path := v.mount + "/" + operation + "/" + v.key
	err := v.session.Call(ctx, operation+" with transit key "+v.key, func(ctx context.Context, client *api.Client) error {
		secret, err := client.Logical().WriteWithContext(ctx, path, map[string]any{
			"batch_input": input, "partial_failure_response_code": 200,
		})
		if err != nil {
			return err
		}
		answers, err = parseBatch(secret, len(input))
		return err
	})
	return answers, providerError(err)
}

func parseBatch(secret *api.Secret, want int) ([]batchAnswer, error) {
	if secret == nil {
		return nil, errors.New("the answer is empty")
	}
	list, _ := secret.Data["batch_results"].([]any)
	if len(list) != want {
		return nil, fmt.Errorf("the answer has %d results, not %d", len(list), want)
	}
	answers := make([]batchAnswer, want)
	for i, entry := range list {
		fields, _ := entry.(map[string]any)
		answers[i].ciphertext, _ = fields["ciphertext"].(string)
		answers[i].plaintext, _ = fields["plaintext"].(string)
		answers[i].failure, _ = fields["error"].(string)
		if len(answers[i].failure) > 200 {
			answers[i].failure = answers[i].failure[:200]
		}
		if answers[i] == (batchAnswer{}) {
			answers[i].failure = "no result"
		}
	}
	return answers, nil
}

// providerError says in this package's words what can be done.
func providerError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, vault.ErrSealed):
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, ErrSealed, err)
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
