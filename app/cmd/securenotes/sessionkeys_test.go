package main

import (
	"errors"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestSessionKeysOfTheCommandLine checks that a pod that was started for new session keys uses
// them, although the file that it mounts is outdated.
func TestSessionKeysOfTheCommandLine(t *testing.T) {
	older, newer := strings.Repeat("0", 64), strings.Repeat("1", 64)
	file := func() *config.Config {
		c := &config.Config{
			APIVersion: config.APIVersion, Kind: config.Kind,
			Deployment: config.Deployment{ID: "id", Namespace: "ns", Name: "notes"}, Listen: ":8443", MetricsListen: ":9090",
			Database: config.Database{SQLite: &config.SQLite{Path: "notes.db"}},
			Auth:     config.Auth{Registration: config.RegistrationOpen, BcryptCost: 12, MinPasswordLength: 8, TokenTTL: config.Duration(3_600_000_000_000)},
			Keys: config.Keys{Vault: &config.Vault{
				Address: "https://vault:8200", AuthMount: "kubernetes", Role: config.RoleAPI, TokenFile: "token", TransitMount: "transit",
				TransitKey: "key", KVMount: "secret", KVPath: "path", SessionKeys: "session-keys-2", SessionKeysDigest: older,
			}},
		}
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, tc := range map[string]struct{ entry, digest, wantEntry, wantDigest string }{
		"nothing is said":                       {wantEntry: "session-keys-2", wantDigest: older},
		"an entry and its digest":               {entry: "session-keys-3000000000001", digest: newer, wantEntry: "session-keys-3000000000001", wantDigest: newer},
		"an entry that an earlier release made": {entry: "session-keys-3", wantEntry: "session-keys-3", wantDigest: ""},
	} {
		c := file()
		err := useSessionKeys(c, tc.entry, tc.digest)
		if v := c.Keys.Vault; err != nil || v.SessionKeysEntry() != tc.wantEntry || v.SessionKeysDigest != tc.wantDigest {
			t.Errorf("%s: %s with digest %q, %v", name, v.SessionKeysEntry(), v.SessionKeysDigest, err)
		}
	}
	if err := useSessionKeys(file(), "../pepper", ""); !errors.Is(err, errConfiguration) {
		t.Errorf("another entry than one of session keys: %v", err)
	}
	if err := useSessionKeys(file(), "session-keys-3", "00"); !errors.Is(err, errConfiguration) {
		t.Errorf("no digest: %v", err)
	}
}
