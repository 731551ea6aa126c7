package testenv

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// TransitKey is a master key in a test's Vault, and an identity that has only the service's rights.
type TransitKey struct {
	// Config logs in as the service does, with a JWT in a file. It uses the auth method jwt instead
	// of kubernetes, because no cluster can review tokens.
	Config config.Vault

	vault *Vault
}

// CreateTransitKey mounts the engines that the service needs and creates one derived key.
func (v *Vault) CreateTransitKey(t testing.TB) *TransitKey {
	t.Helper()
	client := v.Client(t)
	key := &TransitKey{vault: v, Config: config.Vault{
		Address: v.Address, CAFile: v.CAFile, AuthMount: "jwt", Role: config.RoleAPI,
		TokenFile:    filepath.Join(t.TempDir(), "token"),
		TransitMount: "transit", TransitKey: config.TransitKeyName("test", "ns", "name"),
		AuditKey: config.AuditKeyName("test", "ns", "name"),
		KVMount:  "secret", KVPath: config.KVPath("test", "ns", "name"),
	}}
	token, publicKey := signedToken(t)
	if err := os.WriteFile(key.Config.TokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	policy := ""
	for _, operation := range []string{"encrypt", "decrypt", "rewrap"} {
		policy += fmt.Sprintf("path \"transit/%s/%s\" { capabilities = [\"update\"] }\n", operation, key.Config.TransitKey)
	}
	policy += fmt.Sprintf("path \"transit/sign/%s\" { capabilities = [\"update\"] }\n", key.Config.AuditKey)
	policy += fmt.Sprintf("path \"secret/data/%s/*\" { capabilities = [\"read\"] }\n", key.Config.KVPath)
	policy += fmt.Sprintf("path \"%s/creds/*\" { capabilities = [\"read\"] }\n", databaseMount)
	must := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	write := func(path string, data map[string]any) {
		t.Helper()
		_, err := client.Logical().Write(path, data)
		must(path, err)
	}
	must("mount transit", client.Sys().Mount("transit", &api.MountInput{Type: "transit"}))
	must("mount secret", client.Sys().Mount("secret", &api.MountInput{Type: "kv-v2"}))
	must("enable jwt", client.Sys().EnableAuthWithOptions("jwt", &api.EnableAuthOptions{Type: "jwt"}))
	must("policy", client.Sys().PutPolicy("api", policy))
	write("auth/jwt/config", map[string]any{"jwt_validation_pubkeys": []string{publicKey}, "jwt_supported_algs": []string{"EdDSA"}})
	write("auth/jwt/role/"+config.RoleAPI, map[string]any{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{audience},
		"token_policies": []string{"api"}, "token_ttl": "15m",
	})
	write("transit/keys/"+key.Config.TransitKey, map[string]any{"type": "aes256-gcm96", "derived": true})
	write("transit/keys/"+key.Config.AuditKey, map[string]any{"type": "ed25519"})
	return key
}

// Rotate adds a version and forbids encryption under older ones, as the operator does.
func (k *TransitKey) Rotate(t testing.TB) int {
	t.Helper()
	client := k.vault.Client(t)
	path := k.Config.TransitMount + "/keys/" + k.Config.TransitKey
	secret, err := client.Logical().Write(path+"/rotate", nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret == nil {
		if secret, err = client.Logical().Read(path); err != nil {
			t.Fatal(err)
		}
	}
	var latest int
	if _, err := fmt.Sscan(fmt.Sprint(secret.Data["latest_version"]), &latest); err != nil {
		t.Fatalf("latest_version: %v", err)
	}
	if _, err := client.Logical().Write(path+"/config", map[string]any{"min_encryption_version": latest}); err != nil {
		t.Fatal(err)
	}
	return latest
}

// AllowBackups creates the key that signs backups, and gives the identity the rights to back up,
// with an escrow, and to restore.
func (k *TransitKey) AllowBackups(t testing.TB) {
	t.Helper()
	client := k.vault.Client(t)
	k.Config.BackupKey = config.BackupKeyName("test", "ns", "name")
	if _, err := client.Logical().Write("transit/keys/"+k.Config.BackupKey, map[string]any{"type": "ed25519"}); err != nil {
		t.Fatal(err)
	}
	policy, err := client.Sys().GetPolicy("api")
	if err != nil {
		t.Fatal(err)
	}
	policy += fmt.Sprintf("path \"transit/sign/%s\" { capabilities = [\"update\"] }\n", k.Config.BackupKey)
	for _, name := range []string{k.Config.BackupKey, k.Config.TransitKey} {
		policy += fmt.Sprintf("path \"transit/keys/%s\" { capabilities = [\"read\"] }\n", name)
	}
	policy += fmt.Sprintf("path \"secret/data/%s/pepper-*\" { capabilities = [\"create\", \"read\"] }\n", k.Config.KVPath)
	if err := client.Sys().PutPolicy("api", policy); err != nil {
		t.Fatal(err)
	}
}

// Retire forbids decryption under versions below least.
func (k *TransitKey) Retire(t testing.TB, least int) {
	t.Helper()
	path := k.Config.TransitMount + "/keys/" + k.Config.TransitKey + "/config"
	if _, err := k.vault.Client(t).Logical().Write(path, map[string]any{"min_decryption_version": least}); err != nil {
		t.Fatal(err)
	}
}
