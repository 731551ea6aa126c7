package vault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// ErrNotRecorded means that an entry does not have the value whose digest was recorded before it
// was created. Anyone who replaced it knows the new value.
var ErrNotRecorded = errors.New("it is not the value that was recorded")

// ErrExists means that an entry that was to be created has another value.
var ErrExists = errors.New("it exists in Vault with another value")

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

// PepperAt reads the pepper of an entry of the deployment's directory. Errors: ErrNotFound;
// entry is not a name of a pepper.
func (s *Session) PepperAt(ctx context.Context, entry string) (*config.Pepper, error) {
	if !config.IsPepperEntry(entry) {
		return nil, fmt.Errorf("%q is not the name of a pepper", entry)
	}
	pepper := &config.Pepper{}
	if err := s.readKV(ctx, entry, pepper); err != nil {
		return nil, err
	}
	return pepper, nil
}

// DrillIdentity reads an identity of the drill. Errors: ErrNotFound; entry is not a name of one.
func (s *Session) DrillIdentity(ctx context.Context, entry string) (*config.DrillIdentity, error) {
	if !config.IsDrillEntry(entry) {
		return nil, fmt.Errorf("%q is not the name of an identity of the drill", entry)
	}
	identity := &config.DrillIdentity{}
	if err := s.readKV(ctx, entry, identity); err != nil {
		return nil, err
	}
	return identity, nil
}

// CreatePepper creates an entry with a pepper, and never overwrites one. It succeeds if the entry
// has this pepper already, so that it can be repeated. Errors: ErrExists, if the entry has another
// value; entry is not a name of a pepper.
func (s *Session) CreatePepper(ctx context.Context, entry string, pepper *config.Pepper) error {
	if !config.IsPepperEntry(entry) {
		return fmt.Errorf("%q is not the name of a pepper", entry)
	}
	path := s.config.KVPath + "/" + entry
	what := "create " + path
	err := s.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		data := map[string]any{"currentID": pepper.CurrentID, "peppers": pepper.Peppers}
		_, err := client.KVv2(s.config.KVMount).Put(ctx, path, data, api.WithCheckAndSet(0))
		return err
	})
	// Vault refuses to replace an entry: with HTTP 403 to a role that may only create, and with
	// HTTP 400 because of the check and set.
	if !errors.Is(err, ErrDenied) && !errors.Is(err, ErrInvalid) {
		return err
	}
	existing, errRead := s.PepperAt(ctx, entry)
	if errRead != nil {
		return err
	}
	if !samePepper(existing, pepper) {
		return fmt.Errorf("%s: %w", what, ErrExists)
	}
	return nil
}

func samePepper(a, b *config.Pepper) bool {
	return a.CurrentID == b.CurrentID && maps.Equal(a.Peppers, b.Peppers)
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
		if secret.Data == nil {
			return fmt.Errorf("%s: %w: the newest version was deleted or destroyed", what, ErrNotFound)
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
