package config

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// TestNewBackupKeys checks which of Vault's answers are the public keys of a key that signs
// backups.
func TestNewBackupKeys(t *testing.T) {
	version := func(n byte, day string) map[string]any {
		return map[string]any{
			"name": "ed25519", "public_key": base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{n}, ed25519.PublicKeySize)),
			"creation_time": "2026-01-" + day + "T10:00:00.123456789+01:00",
		}
	}
	answer := func(kind string, keys any) map[string]any { return map[string]any{"type": kind, "keys": keys} }
	for name, tc := range map[string]struct {
		answer   map[string]any
		versions int
		wantErr  string
	}{
		"one version":                   {answer: answer("ed25519", map[string]any{"1": version(1, "01")}), versions: 1},
		"three, in the order of number": {answer: answer("ed25519", map[string]any{"10": version(3, "03"), "9": version(2, "02"), "1": version(1, "01")}), versions: 3},
		"another type":                  {answer: answer("rsa-2048", map[string]any{"1": version(1, "01")}), wantErr: "rsa-2048"},
		"no type":                       {answer: map[string]any{}, wantErr: "not ed25519"},
		"no versions":                   {answer: answer("ed25519", map[string]any{}), wantErr: "1 or more versions"},
		"versions without a key":        {answer: answer("ed25519", map[string]any{"1": 1767225600}), wantErr: "no versions of the Transit key key"},
		"a derived key":                 {answer: answer("ed25519", map[string]any{"1": map[string]any{"public_key": "", "creation_time": "2026-01-01T00:00:00Z"}}), wantErr: "not an Ed25519 key"},
		"a key of another size":         {answer: answer("ed25519", map[string]any{"1": map[string]any{"public_key": "AAAA", "creation_time": "2026-01-01T00:00:00Z"}}), wantErr: "not an Ed25519 key"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := NewBackupKeys("key", tc.answer)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil || keys.Key != "key" || len(keys.Versions) != tc.versions {
				t.Fatalf("got %+v and error %v, want %d versions", keys, err, tc.versions)
			}
			for i, got := range keys.Versions {
				if got.PublicKey[0] != byte(i+1) || got.Since.Day() != i+1 || got.Since.Location() != time.UTC {
					t.Errorf("version %d is %+v", got.Version, got)
				}
				last := i == tc.versions-1
				if (got.Until == nil) != last || !last && !got.Until.Equal(keys.Versions[i+1].Since) {
					t.Errorf("version %d lasts until %v, want the creation of the next", got.Version, got.Until)
				}
			}
		})
	}
}
