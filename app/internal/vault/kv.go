package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// ErrNotRecorded means that an entry does not have the value whose digest was recorded before it
// was created. Anyone who replaced it knows the new value.
var ErrNotRecorded = errors.New("it is not the value that was recorded")

// SessionKeys reads the deployment's session keys. Error: ErrNotRecorded.
func (s *Session) SessionKeys(ctx context.Context) (*config.SessionKeys, error) {
	keys, entry := &config.SessionKeys{}, s.config.SessionKeysEntry()
	if err := s.readKV(ctx, entry, keys); err != nil {
		return nil, err
	}
	if err := s.mustBe(entry, s.config.SessionKeysDigest, keys.Digest); err != nil {
		return nil, fmt.Errorf("%w: create a KeyRotation with reason Compromise, which replaces the session keys", err)
	}
	return keys, nil
}

// Pepper reads the deployment's password pepper. Error: ErrNotRecorded.
func (s *Session) Pepper(ctx context.Context) (*config.Pepper, error) {
	pepper, entry := &config.Pepper{}, s.config.PepperEntry()
	if err := s.readKV(ctx, entry, pepper); err != nil {
		return nil, err
	}
	if err := s.mustBe(entry, s.config.PepperDigest, pepper.Digest); err != nil {
		return nil, fmt.Errorf("%w: restore it from a backup of Vault", err)
	}
	return pepper, nil
}

// mustBe compares a value with the recorded digest, if any.
func (s *Session) mustBe(entry, recorded string, digest func() (string, error)) error {
	if recorded == "" {
		return nil
	}
	found, err := digest()
	if err != nil {
		return err
	}
	if found != recorded {
		return fmt.Errorf("%s/%s in Vault: %w (SHA-256 %s, recorded %s): somebody has replaced it", s.config.KVPath, entry, ErrNotRecorded, found, recorded)
	}
	return nil
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
			// The parser's error may quote the secret.
			return fmt.Errorf("%s: its content does not have the expected form", what)
		}
		return nil
	})
}
