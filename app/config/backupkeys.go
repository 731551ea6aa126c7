package config

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// BackupKeys are the public halves of a deployment's backup key, which signs backups. Verification
// trusts no other key, and never one that comes with a backup.
type BackupKeys struct {
	// Key is the name of the Transit key; see [BackupKeyName].
	Key      string      `json:"key"`
	Versions []BackupKey `json:"versions"`
}

// BackupKey is one version of the backup key.
type BackupKey struct {
	Version int `json:"version"`
	// PublicKey is an Ed25519 key (RFC 8032), 32 bytes, in base64.
	PublicKey []byte `json:"publicKey"`
	// Since is when Vault created the version.
	Since time.Time `json:"since"`
	// Until is when the next version replaced it. Only a Compromise does, so a signature of this
	// version is no longer proof. Nil: it is in use.
	Until *time.Time `json:"until,omitempty"`
}

// maxBackupKeyVersions bounds the versions in a BackupKeys.
const maxBackupKeyVersions = 10_000

// ParseBackupKeys reads what [BackupKeys] is in JSON, and validates it.
func ParseBackupKeys(raw []byte) (*BackupKeys, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil, errors.New("public keys: the file is empty: write the output of `securenotes backup public-keys` to it, or give another copy")
	}
	keys := &BackupKeys{}
	if err := json.Unmarshal(raw, keys); err != nil {
		if errors.Is(json.NewDecoder(bytes.NewReader(raw)).Decode(&json.RawMessage{}), io.ErrUnexpectedEOF) {
			return nil, errors.New("public keys: the file is truncated: write the output of `securenotes backup public-keys` to it again, or give another copy")
		}
		return nil, fmt.Errorf("public keys: the file is not the output of `securenotes backup public-keys`: %w", err)
	}
	if err := keys.validate(); err != nil {
		return nil, err
	}
	return keys, nil
}

func (k *BackupKeys) validate() error {
	if k.Key == "" || len(k.Versions) == 0 || len(k.Versions) > maxBackupKeyVersions {
		return errors.New("public keys: need the name of the key and 1 or more versions, as `securenotes backup public-keys` prints them")
	}
	for i, version := range k.Versions {
		if version.Version < 1 || i > 0 && version.Version <= k.Versions[i-1].Version {
			return fmt.Errorf("public keys: versions must be positive and in ascending order, at entry %d", i+1)
		}
		if len(version.PublicKey) != ed25519.PublicKeySize {
			return fmt.Errorf("public keys: version %d is not an Ed25519 key", version.Version)
		}
		if (version.Until == nil) != (i == len(k.Versions)-1) {
			return fmt.Errorf("public keys: every version except the last must have until, at version %d", version.Version)
		}
	}
	return nil
}

// Find returns a version of the key.
func (k *BackupKeys) Find(version int) (BackupKey, bool) {
	for _, found := range k.Versions {
		if found.Version == version {
			return found, true
		}
	}
	return BackupKey{}, false
}
