package vault

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/config"
)

// TestPlantedSecretsAreRefused checks that values in Vault are rejected if their digest is not the
// recorded one. If an earlier release recorded no digest, they are accepted.
func TestPlantedSecretsAreRefused(t *testing.T) {
	keys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	pepper := config.NewPepper()
	keysDigest, errKeys := keys.Digest()
	pepperDigest, errPepper := pepper.Digest()
	if err := errors.Join(errKeys, errPepper); err != nil {
		t.Fatal(err)
	}
	stored := map[string]any{"session-keys-1000000000001": keys, "session-keys": keys, "pepper": pepper, "pepper-aaaaaaaaaaaaaaaa": pepper}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/login") {
			_, _ = w.Write([]byte(`{"auth":{"client_token":"t","lease_duration":900,"renewable":true}}`))
			return
		}
		value := stored[strings.TrimPrefix(r.URL.Path, "/v1/secret/data/dir/")]
		if value == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"data": map[string]any{"data": value, "metadata": map[string]any{"version": 1, "created_time": "2026-01-01T00:00:00Z", "deletion_time": ""}}})
	}))
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	other := strings.Repeat("0", 64)
	for name, tc := range map[string]struct {
		c    config.Vault
		want error
	}{
		"those recorded": {c: config.Vault{
			SessionKeys: "session-keys-1000000000001", SessionKeysDigest: keysDigest, Pepper: "pepper-aaaaaaaaaaaaaaaa", PepperDigest: pepperDigest,
		}, want: nil},
		"the fixed names":           {c: config.Vault{SessionKeysDigest: keysDigest, PepperDigest: pepperDigest}, want: nil},
		"those of earlier releases": {c: config.Vault{}, want: nil},
		"others":                    {c: config.Vault{SessionKeysDigest: other, PepperDigest: other}, want: ErrNotRecorded},
		"none":                      {c: config.Vault{SessionKeys: "session-keys-9", Pepper: "pepper-bbbbbbbbbbbbbbbb"}, want: ErrNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			c := tc.c
			c.Address, c.CAFile, c.KVMount, c.KVPath = server.URL, written(t, ca), "secret", "dir"
			session := sessionOf(t, c)
			gotKeys, errKeys := session.SessionKeys(context.Background())
			gotPepper, errPepper := session.Pepper(context.Background())
			if !errors.Is(errKeys, tc.want) || !errors.Is(errPepper, tc.want) {
				t.Fatalf("session keys: %v; pepper: %v", errKeys, errPepper)
			}
			if tc.want != nil {
				if gotKeys != nil || gotPepper != nil {
					t.Error("the rejected values are returned")
				}
				return
			}
			if gotKeys.JWKS != keys.JWKS || gotPepper.CurrentID != pepper.CurrentID {
				t.Error("other values are returned")
			}
		})
	}
}
