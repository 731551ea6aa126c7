package config

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestBackupKeysFileIsRefused checks what the error says of a file that is not whole.
func TestBackupKeysFileIsRefused(t *testing.T) {
	key := bytes.Repeat([]byte{1}, ed25519.PublicKeySize)
	raw, err := json.MarshalIndent(BackupKeys{Key: "key", Versions: []BackupKey{{Version: 1, PublicKey: key, Since: time.Unix(0, 0).UTC()}}}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	raw = append(raw, '\n')
	if keys, err := ParseBackupKeys(raw); err != nil || !bytes.Equal(keys.Versions[0].PublicKey, key) {
		t.Errorf("the whole file: %+v, %v", keys, err)
	}
	for length := 1; length < len(raw)-1; length++ {
		if _, err := ParseBackupKeys(raw[:length]); err == nil || !strings.Contains(err.Error(), "the file is truncated: write the output of `securenotes backup public-keys`") {
			t.Fatalf("the first %d bytes: %v", length, err)
		}
	}
	for name, tc := range map[string]struct{ raw, want string }{
		"empty":             {"", "the file is empty"},
		"only a line feed":  {"\n", "the file is empty"},
		"another file":      {"age1xyz", "the file is not the output of `securenotes backup public-keys`"},
		"text after it":     {string(raw) + "}", "the file is not the output of `securenotes backup public-keys`"},
		"the file, twice":   {string(raw) + string(raw), "the file is not the output of `securenotes backup public-keys`"},
		"another JSON file": {"{}", "need the name of the key and 1 or more versions"},
		"null":              {"null", "need the name of the key and 1 or more versions"},
	} {
		if _, err := ParseBackupKeys([]byte(tc.raw)); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
	}
}
