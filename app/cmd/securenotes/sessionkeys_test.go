package main

import (
	"errors"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestSessionKeysOfTheCommandLine: a pod that was started for new session keys uses these, whatever the file that
// it mounts says yet.
func TestSessionKeysOfTheCommandLine(t *testing.T) {
	file := func() *config.Config {
		c := &config.Config{
			APIVersion: config.APIVersion, Kind: config.Kind,
			Deployment: config.Deployment{ID: "id", Namespace: "ns", Name: "notes"}, Listen: ":8443", MetricsListen: ":9090",
			Database: config.Database{SQLite: &config.SQLite{Path: "notes.db"}},
			Auth:     config.Auth{Registration: config.RegistrationOpen, BcryptCost: 12, MinPasswordLength: 8, TokenTTL: config.Duration(3_600_000_000_000)},
			Keys: config.Keys{Vault: &config.Vault{
				Address: "https://vault:8200", AuthMount: "kubernetes", Role: config.RoleAPI, TokenFile: "token", TransitMount: "transit",
				TransitKey: "key", KVMount: "secret", KVPath: "path", SessionKeys: "session-keys-2",
			}},
		}
		if err := c.Complete(); err != nil {
			t.Fatal(err)
		}
		return c
	}
	for entry, want := range map[string]string{"": "session-keys-2", "session-keys-3": "session-keys-3"} {
		c := file()
		if err := useSessionKeys(c, entry); err != nil || c.Keys.Vault.SessionKeysEntry() != want {
			t.Errorf("%q: %s, %v; want %s", entry, c.Keys.Vault.SessionKeysEntry(), err, want)
		}
	}
	if err := useSessionKeys(file(), "../pepper"); !errors.Is(err, errConfiguration) {
		t.Errorf("another entry than one of session keys: %v", err)
	}
}
