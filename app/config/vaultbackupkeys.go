package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// NewBackupKeys returns the public keys in Vault's answer to a read of the Transit key. A version's
// Until is the creation time of the next one. Error: the key is not one that signs backups.
func NewBackupKeys(key string, answer map[string]any) (*BackupKeys, error) {
	if got := answer["type"]; got != "ed25519" {
		return nil, fmt.Errorf("the Transit key %s is of type %v, not ed25519: remove or rename it in Vault", key, got)
	}
	var listed map[int]struct {
		PublicKey    []byte    `json:"public_key"`
		CreationTime time.Time `json:"creation_time"`
	}
	raw, err := json.Marshal(answer["keys"])
	if err == nil {
		err = json.Unmarshal(raw, &listed)
	}
	if err != nil {
		return nil, fmt.Errorf("Vault's answer has no versions of the Transit key %s", key)
	}
	keys := &BackupKeys{Key: key}
	for _, number := range slices.Sorted(maps.Keys(listed)) {
		version := BackupKey{Version: number, PublicKey: listed[number].PublicKey, Since: listed[number].CreationTime.UTC()}
		if n := len(keys.Versions); n > 0 {
			keys.Versions[n-1].Until = &version.Since
		}
		keys.Versions = append(keys.Versions, version)
	}
	return keys, keys.validate()
}
