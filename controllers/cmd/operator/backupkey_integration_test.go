//go:build integration

package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestRightsOfEachRole: each role may do exactly what the table says, and no role but those for
// backups can sign a backup. Everything else that the table has is denied.
func TestRightsOfEachRole(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	if err := c.Create(t.Context(), postgresNotes(namespace, "notes")); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	const stranger = "stranger-to-backups"
	master, backup := config.TransitKeyName(c.id, namespace, "notes"), config.BackupKeyName(c.id, namespace, "notes")
	others, othersBackup := config.TransitKeyName(c.id, stranger, "notes"), config.BackupKeyName(c.id, stranger, "notes")
	path := config.KVPath(c.id, namespace, "notes")
	root := c.vault.Client(t).Logical()
	// A missing key or entry could not show that its use is denied.
	for path, data := range map[string]map[string]any{
		"transit/keys/" + others:                                        {"type": "aes256-gcm96", "derived": true},
		"transit/keys/" + othersBackup:                                  {"type": "ed25519"},
		"secret/data/" + path + "/pepper-2":                             {"data": map[string]any{"a": "b"}},
		"secret/data/" + path + "/session-keys":                         {"data": map[string]any{"a": "b"}},
		"secret/data/" + path + "/drill-2":                              {"data": map[string]any{"a": "b"}},
		"secret/data/" + config.KVPath(c.id, stranger, "notes/drill-2"): {"data": map[string]any{"a": "b"}},
		"secret/data/" + config.KVPath(c.id, stranger, "notes/pepper"):  {"data": map[string]any{"a": "b"}},
	} {
		if _, err := root.Write(path, data); err != nil {
			t.Fatal(err)
		}
	}
	text := map[string]any{"plaintext": "AAAA", "context": "AAAA"}
	sealed := map[string]any{"context": "AAAA"}
	for key, ciphertext := range map[string]map[string]any{master: sealed} {
		secret, err := root.Write("transit/encrypt/"+key, text)
		if err != nil {
			t.Fatal(err)
		}
		ciphertext["ciphertext"] = secret.Data["ciphertext"]
	}
	message := map[string]any{"input": "AAAA"}
	value := map[string]any{"data": map[string]any{"a": "b"}}
	requests := map[string]attempt{
		"sign a backup":                     {"write", "transit/sign/" + backup, message},
		"sign another namespace's backup":   {"write", "transit/sign/" + othersBackup, message},
		"sign the audit log":                {"write", "transit/sign/" + config.AuditKeyName(c.id, namespace, "notes"), message},
		"read the backup key":               {"read", "transit/keys/" + backup, nil},
		"read another's backup key":         {"read", "transit/keys/" + othersBackup, nil},
		"export the backup key":             {"read", "transit/export/signing-key/" + backup, nil},
		"back up the backup key":            {"read", "transit/backup/" + backup, nil},
		"make the backup key exportable":    {"write", "transit/keys/" + backup + "/config", map[string]any{"exportable": true}},
		"rotate the backup key":             {"write", "transit/keys/" + backup + "/rotate", nil},
		"end versions of the backup key":    {"write", "transit/keys/" + backup + "/config", map[string]any{"min_encryption_version": 1}},
		"raise the backup key's floor":      {"write", "transit/keys/" + backup + "/config", map[string]any{"min_decryption_version": 1}},
		"trim the backup key":               {"write", "transit/keys/" + backup + "/trim", map[string]any{"min_available_version": 1}},
		"import a version":                  {"write", "transit/keys/" + backup + "/import_version", map[string]any{"ciphertext": "x"}},
		"create a backup key":               {"write", "transit/keys/" + backup + "-x", map[string]any{"type": "ed25519", "exportable": false}},
		"create a backup key to export":     {"write", "transit/keys/" + backup + "-y", map[string]any{"type": "ed25519", "exportable": true}},
		"create a backup key that decrypts": {"write", "transit/keys/" + backup + "-z", map[string]any{"type": "rsa-2048"}},
		"read the master key's versions":    {"read", "transit/keys/" + master, nil},
		"read another's master key":         {"read", "transit/keys/" + others, nil},
		"encrypt":                           {"write", "transit/encrypt/" + master, text},
		"encrypt for another":               {"write", "transit/encrypt/" + others, text},
		"decrypt":                           {"write", "transit/decrypt/" + master, sealed},
		"decrypt another's":                 {"write", "transit/decrypt/" + others, sealed},
		"rewrap":                            {"write", "transit/rewrap/" + master, sealed},
		"read the pepper":                   {"read", "secret/data/" + path + "/pepper", nil},
		"read another pepper":               {"read", "secret/data/" + path + "/pepper-2", nil},
		"read another's pepper":             {"read", "secret/data/" + config.KVPath(c.id, stranger, "notes") + "/pepper", nil},
		"add a pepper":                      {"write", "secret/data/" + path + "/pepper-%s", value},
		"add the first pepper":              {"write", "secret/data/" + config.KVPath(c.id, namespace, "%s") + "/pepper", value},
		"replace the pepper":                {"write", "secret/data/" + path + "/pepper", value},
		"replace another pepper":            {"write", "secret/data/" + path + "/pepper-2", value},
		"add another's pepper":              {"write", "secret/data/" + config.KVPath(c.id, stranger, "notes") + "/pepper-%s", value},
		"delete a pepper":                   {"delete", "secret/data/" + path + "/pepper-2", nil},
		"read the drill's identity":         {"read", "secret/data/" + path + "/drill-2", nil},
		"read another's drill identity":     {"read", "secret/data/" + config.KVPath(c.id, stranger, "notes") + "/drill-2", nil},
		"add a drill identity":              {"write", "secret/data/" + path + "/drill-%s", value},
		"add another's drill identity":      {"write", "secret/data/" + config.KVPath(c.id, stranger, "notes") + "/drill-%s", value},
		"replace the drill's identity":      {"write", "secret/data/" + path + "/drill-2", value},
		"delete the drill's identity":       {"delete", "secret/data/" + path + "/drill-2", nil},
		"delete its metadata":               {"delete", "secret/metadata/" + path + "/drill-2", nil},
		"destroy a drill identity":          {"write", "secret/destroy/" + path + "/drill-2", map[string]any{"versions": []int{7}}},
		"read the session keys":             {"read", "secret/data/" + path + "/session-keys", nil},
		"read the marker":                   {"read", "secret/data/" + path + "/marker", nil},
		"list entries":                      {"list", "secret/metadata/" + path, nil},
		"list keys":                         {"list", "transit/keys", nil},
		"write a policy":                    {"write", "sys/policies/acl/x", map[string]any{"policy": ""}},
	}
	account := func(suffix string) string { return "notes" + suffix }
	backups := []string{"sign a backup", "read the backup key", "read the master key's versions"}
	identities := map[string]struct {
		role, namespace, account string
		may                      []string
	}{
		"api": {config.RoleAPI, namespace, account(config.ServiceAccountAPISuffix), []string{
			"sign the audit log", "encrypt", "decrypt", "read the pepper", "read another pepper", "read the session keys",
		}},
		"rotation": {config.RoleRotation, namespace, account(config.ServiceAccountRotationSuffix), []string{"encrypt", "decrypt", "rewrap"}},
		"operator": {config.RoleOperator, operatorNamespace, operatorAccount, []string{
			"read the backup key", "read another's backup key", "rotate the backup key", "end versions of the backup key", "create a backup key",
			"read the master key's versions", "read another's master key", "add a pepper", "add the first pepper", "add another's pepper", "read the marker",
			"add a drill identity", "add another's drill identity", "destroy a drill identity",
		}},
		"backup":        {config.RoleBackup, namespace, account(config.ServiceAccountBackupSuffix), backups},
		"backup-escrow": {config.RoleBackupEscrow, namespace, account(config.ServiceAccountBackupEscrowSuffix), append(slices.Clone(backups), "decrypt", "read the pepper", "read another pepper")},
		"restore": {config.RoleRestore, namespace, account(config.ServiceAccountRestoreSuffix), []string{
			"read the backup key", "encrypt", "decrypt", "read the pepper", "read another pepper", "add a pepper",
		}},
		"drill": {config.RoleDrill, namespace, account(config.ServiceAccountDrillSuffix), []string{
			"read the backup key", "read the master key's versions", "decrypt", "read the drill's identity",
		}},
		"drill of another namespace": {config.RoleDrill, stranger, account(config.ServiceAccountDrillSuffix), []string{
			"read another's backup key", "read another's master key", "decrypt another's", "read another's drill identity",
		}},
		"backup of another namespace": {config.RoleBackup, stranger, account(config.ServiceAccountBackupSuffix), []string{
			"sign another namespace's backup", "read another's backup key", "read another's master key",
		}},
		"backup-escrow of another namespace": {config.RoleBackupEscrow, stranger, account(config.ServiceAccountBackupEscrowSuffix), []string{
			"sign another namespace's backup", "read another's backup key", "read another's master key", "decrypt another's", "read another's pepper",
		}},
		"restore of another namespace": {config.RoleRestore, stranger, account(config.ServiceAccountRestoreSuffix), []string{
			"read another's backup key", "encrypt for another", "decrypt another's", "read another's pepper", "add another's pepper",
		}},
	}
	for name, identity := range identities {
		t.Run(name, func(t *testing.T) {
			client, err := c.login(t, identity.role, identity.namespace, identity.account, "vault")
			if err != nil {
				t.Fatal(err)
			}
			for _, right := range identity.may {
				if _, ok := requests[right]; !ok {
					t.Errorf("the table has no request %q", right)
				}
			}
			for right, request := range requests {
				if strings.Contains(request.path, "%s") {
					request.path = fmt.Sprintf(request.path, strings.ReplaceAll(name, " ", "-"))
				}
				err, may := request.run(client), slices.Contains(identity.may, right)
				// A ciphertext of another key is refused after the rights were checked.
				if right == "decrypt another's" && err != nil && !refused(err) {
					err = nil
				}
				switch {
				case may && err != nil:
					t.Errorf("%s: %v, want it to work", right, err)
				case !may && !refused(err):
					t.Errorf("%s: %v, want it denied", right, err)
				}
			}
		})
	}
	t.Run("logins", func(t *testing.T) {
		for role, suffix := range map[string]string{
			config.RoleBackup: config.ServiceAccountBackupEscrowSuffix, config.RoleBackupEscrow: config.ServiceAccountBackupSuffix,
			config.RoleRestore: config.ServiceAccountAPISuffix, config.RoleAPI: config.ServiceAccountBackupSuffix, config.RoleDrill: config.ServiceAccountRestoreSuffix,
		} {
			if _, err := c.login(t, role, namespace, account(suffix), "vault"); err == nil {
				t.Errorf("an account *%s could log in as %s", suffix, role)
			}
		}
	})
}

// signBackup signs with the backup key as a backup Job does.
func (c *cluster) signBackup(t *testing.T, namespace string, data map[string]any) (string, error) {
	t.Helper()
	pod, err := c.login(t, config.RoleBackup, namespace, "notes"+config.ServiceAccountBackupSuffix, "vault")
	if err != nil {
		t.Fatal(err)
	}
	return sign(pod, config.BackupKeyName(c.id, namespace, "notes"), data)
}

func sign(client *api.Client, key string, data map[string]any) (string, error) {
	secret, err := client.Logical().Write("transit/sign/"+key, data)
	if err != nil {
		return "", err
	}
	signature, _ := secret.Data["signature"].(string)
	return signature, nil
}

// mustVerify checks a signature with the public key of a version in the status.
func mustVerify(t *testing.T, sn *v1alpha1.SecureNotes, version int, message []byte, signature string) {
	t.Helper()
	text, ok := strings.CutPrefix(signature, fmt.Sprintf("vault:v%d:", version))
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil {
		t.Fatalf("the signature is %q, want one of version %d", signature, version)
	}
	for _, known := range sn.Status.BackupKeys.Versions {
		if known.Version != int64(version) {
			continue
		}
		key, err := base64.StdEncoding.DecodeString(known.PublicKey)
		if err != nil || !ed25519.Verify(key, message, raw) {
			t.Errorf("the signature does not verify with %+v: %v", known, err)
		}
		return
	}
	t.Errorf("the status has no version %d: %+v", version, sn.Status.BackupKeys)
}

// awaitBackupKeys waits until the status has that many versions of the backup key.
func (c *cluster) awaitBackupKeys(t *testing.T, sn *v1alpha1.SecureNotes, versions int) {
	t.Helper()
	await(t, "the public keys of the backup key", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if keys := sn.Status.BackupKeys; keys == nil || len(keys.Versions) != versions {
			return fmt.Sprintf("%+v", keys)
		}
		return ""
	})
}

// testBackupKeyAfterCompromise: after the first Compromise only the second version signs, and the
// first can still be verified.
func testBackupKeyAfterCompromise(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes, earlier string) {
	c.awaitBackupKeys(t, sn, 2)
	message := []byte("a backup")
	input := base64.StdEncoding.EncodeToString(message)
	signature, err := c.signBackup(t, sn.Namespace, map[string]any{"input": input})
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, sn, 2, message, signature)
	mustVerify(t, sn, 1, message, earlier)
	if until := sn.Status.BackupKeys.Versions[0].Until; until == nil || !until.Equal(&sn.Status.BackupKeys.Versions[1].Since) {
		t.Errorf("the versions are %+v, want the first to end when the second begins", sn.Status.BackupKeys.Versions)
	}
	if signature, err := c.signBackup(t, sn.Namespace, map[string]any{"input": input, "key_version": 1}); err == nil {
		t.Errorf("the first version still signs: %s", signature)
	}
}

// TestLostBackupKey: a lost backup key is reported and not recreated, and the service stays ready.
// Once its public keys are removed from the status, the operator creates another one.
func TestLostBackupKey(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	c.awaitBackupKeys(t, sn, 1)
	first := sn.Status.BackupKeys.Versions[0].PublicKey
	key := config.BackupKeyName(c.id, namespace, "notes")
	if sn.Status.BackupKeys.Key != key {
		t.Errorf("the key is %s, want %s", sn.Status.BackupKeys.Key, key)
	}
	root := c.vault.Client(t).Logical()
	if _, err := root.Write("transit/keys/"+key+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Delete("transit/keys/" + key); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "2h")
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupKeyUnusable, metav1.ConditionTrue, v1alpha1.ReasonKeyMissing)
	if !strings.Contains(message, key) || !strings.Contains(message, "docs/lost-state.md") {
		t.Error(message)
	}
	c.awaitReady(t, namespace, "notes")
	if c.keyExists(t, key) {
		t.Error("the key was recreated")
	}
	c.awaitBackupKeys(t, sn, 1)
	if got := sn.Status.BackupKeys.Versions[0].PublicKey; got != first {
		t.Errorf("the status has %s, want the lost key %s", got, first)
	}
	c.awaitEvent(t, namespace, "SecureNotes", v1alpha1.ReasonKeyMissing)

	// As docs/lost-state.md says.
	patch := client.RawPatch("application/json-patch+json", []byte(`[{"op": "remove", "path": "/status/backupKeys"}]`))
	if err := c.Status().Patch(t.Context(), sn, patch); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "3h")
	await(t, "another key", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if keys := sn.Status.BackupKeys; keys == nil || keys.Versions[0].PublicKey == first || meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionBackupKeyUnusable) != nil {
			return fmt.Sprintf("%+v, %+v", keys, sn.Status.Conditions)
		}
		return ""
	})
	signature, err := c.signBackup(t, namespace, map[string]any{"input": base64.StdEncoding.EncodeToString([]byte("x"))})
	if err != nil {
		t.Fatal(err)
	}
	mustVerify(t, sn, 1, []byte("x"), signature)
}
