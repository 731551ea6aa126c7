package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// SessionKeys reads the deployment's session keys.
func (s *Session) SessionKeys(ctx context.Context) (*config.SessionKeys, error) {
	keys := &config.SessionKeys{}
	return keys, s.readKV(ctx, s.config.SessionKeysEntry(), keys)
}

// Pepper reads the deployment's password pepper.
func (s *Session) Pepper(ctx context.Context) (*config.Pepper, error) {
	pepper := &config.Pepper{}
	return pepper, s.readKV(ctx, config.PepperLeaf, pepper)
}

func (s *Session) readKV(ctx context.Context, leaf string, into any) error {
	path := s.config.KVPath + "/" + leaf
	what := "read " + path
	return s.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		secret, err := client.KVv2(s.config.KVMount).Get(ctx, path)
		if errors.Is(err, api.ErrSecretNotFound) {
			return fmt.Errorf("%s: %w", what, ErrNotFound)
		}
		if err != nil {
			return err
		}
		raw, err := json.Marshal(secret.Data)
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			// The parser's own error may quote the secret.
			return fmt.Errorf("%s: its content is not of the expected form", what)
		}
		return nil
	})
}
