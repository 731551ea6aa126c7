package vault

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// BackupKeys reads the public keys of the deployment's backup key. Error: ErrNotFound.
func (s *Session) BackupKeys(ctx context.Context) (*config.BackupKeys, error) {
	answer, err := s.readTransitKey(ctx, s.config.BackupKey)
	if err != nil {
		return nil, err
	}
	return config.NewBackupKeys(s.config.BackupKey, answer)
}

// KeyVersions are the versions of the master key.
type KeyVersions struct {
	Latest int
	// MinDecryption is the oldest version that decrypts.
	MinDecryption int
	// MinAvailable is the oldest version that was not destroyed. 0: none was destroyed.
	MinAvailable int
	// Created has the creation times of the versions that decrypt. Vault lists no others.
	Created map[int]time.Time
}

// MasterKeyVersions reads the versions of the deployment's master key. Error: ErrNotFound.
func (s *Session) MasterKeyVersions(ctx context.Context) (*KeyVersions, error) {
	answer, err := s.readTransitKey(ctx, s.config.TransitKey)
	if err != nil {
		return nil, err
	}
	var key struct {
		Latest        int           `json:"latest_version"`
		MinDecryption int           `json:"min_decryption_version"`
		MinAvailable  int           `json:"min_available_version"`
		Created       map[int]int64 `json:"keys"`
	}
	raw, err := json.Marshal(answer)
	if err == nil {
		err = json.Unmarshal(raw, &key)
	}
	if err != nil || key.Latest < 1 || key.MinDecryption < 1 {
		return nil, fmt.Errorf("Vault's answer does not have the versions of the Transit key %s", s.config.TransitKey)
	}
	versions := &KeyVersions{
		Latest: key.Latest, MinDecryption: key.MinDecryption, MinAvailable: key.MinAvailable, Created: map[int]time.Time{},
	}
	for version, created := range key.Created {
		versions.Created[version] = time.Unix(created, 0).UTC()
	}
	return versions, nil
}

func (s *Session) readTransitKey(ctx context.Context, key string) (answer map[string]any, err error) {
	what := "read transit key " + key
	err = s.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		secret, err := client.Logical().ReadWithContext(ctx, s.config.TransitMount+"/keys/"+key)
		if err != nil {
			return err
		}
		if secret == nil {
			return fmt.Errorf("%s: %w", what, ErrNotFound)
		}
		answer = secret.Data
		return nil
	})
	return answer, err
}
