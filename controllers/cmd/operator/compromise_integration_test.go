//go:build integration

package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestCompromiseTakesOver: a Compromise supersedes a Routine rotation whose Job runs, and replaces
// everything except the pepper.
func TestCompromiseTakesOver(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = volumeBackup() // so that all service accounts are replaced
	c.ready(t, sn)
	routine, urgent := rotationOf(sn, "routine"), rotationOf(sn, "urgent")
	if err := c.Create(t.Context(), routine); err != nil {
		t.Fatal(err)
	}
	c.awaitJob(t, namespace, "notes-rotate-v2-1")
	root := c.vault.Client(t).Logical()
	directory := "secret/data/" + config.KVPath(c.id, namespace, "notes")
	first := sn.Status.SessionKeys
	pepper, firstKeys := c.entry(t, directory+"/pepper"), c.entry(t, directory+"/"+first)
	planted := c.plantSessionKeys(t, directory)
	accounts := c.accountUIDs(t, sn)
	stolen, err := c.login(t, config.RoleAPI, namespace, operand.APIServiceAccount("notes"), "vault")
	if err != nil {
		t.Fatal(err)
	}
	c.awaitBackupKeys(t, sn, 1)
	signedBefore, err := c.signBackup(t, namespace, map[string]any{"input": base64.StdEncoding.EncodeToString([]byte("a backup"))})
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	for role, account := range map[string]string{
		config.RoleAPI: operand.APIServiceAccount("notes"), config.RoleRotation: operand.RotationServiceAccount("notes"),
	} {
		tokens[role] = c.token(t, namespace, account, "vault")
	}

	urgent.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), urgent); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, routine, v1alpha1.ConditionFailed)
	failed := meta.FindStatusCondition(routine.Status.Conditions, v1alpha1.ConditionFailed)
	if failed.Reason != config.ReasonSuperseded || !strings.Contains(failed.Message, "KeyRotation urgent") {
		t.Errorf("Failed: %+v", failed)
	}
	// The Job does not wait for the pods. What they may need still exists.
	c.finishJob(t, namespace, "notes-rotate-v3-1")
	if c.entry(t, directory+"/"+first) == nil {
		t.Error("the previous session keys were deleted while a pod could need them")
	}
	entry := c.restart(t, namespace, "notes", 3)
	c.finishJob(t, namespace, "notes-verify-v3-1")
	c.awaitState(t, urgent, v1alpha1.ReasonComplete)
	if retire := c.finishJob(t, namespace, "notes-retire-v3-1"); !slices.Contains(retire.Spec.Template.Spec.Containers[0].Args, "--urgent") {
		t.Errorf("an urgent retirement yields: %s", retire.Spec.Template.Spec.Containers[0].Args)
	}
	c.awaitRotation(t, urgent, "every condition", func() string {
		for _, kind := range []string{
			v1alpha1.ConditionServiceAccountsRecreated, v1alpha1.ConditionBackupKeyReplaced, v1alpha1.ConditionSessionKeysReplaced, v1alpha1.ConditionSessionsEnded, v1alpha1.ConditionOldVersionRetired,
		} {
			if !meta.IsStatusConditionTrue(urgent.Status.Conditions, kind) {
				return fmt.Sprintf("%s: %+v", kind, urgent.Status.Conditions)
			}
		}
		return ""
	})
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionTrue, v1alpha1.ReasonIdle)
	if _, minDecryption, _ := c.keyVersions(t, sn); minDecryption != "3" {
		t.Errorf("min_decryption_version is %s", minDecryption)
	}

	t.Run("session keys", func(t *testing.T) {
		if c.entry(t, directory+"/"+first) != nil {
			t.Error("the previous session keys are still in Vault")
		}
		newKeys := c.entry(t, directory+"/"+entry)
		if newKeys == nil || cmp.Equal(newKeys, firstKeys) {
			t.Error("the new session keys are missing, or the old ones")
		}
		// A person who planted keys can sign tokens only with those.
		if newKeys["jwks"] == planted.JWKS {
			t.Errorf("%s holds keys that were planted", entry)
		}
		if !cmp.Equal(c.entry(t, directory+"/pepper"), pepper) {
			t.Error("the pepper was replaced")
		}
		cm := &corev1.ConfigMap{}
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: operand.ConfigMapName("notes")}, cm); err != nil {
			t.Fatal(err)
		}
		read, err := config.Parse([]byte(cm.Data["api.yaml"]))
		if err != nil || read.Keys.Vault.SessionKeysEntry() != entry {
			t.Errorf("%v: the API reads %s", err, read.Keys.Vault.SessionKeysEntry())
		}
		if got := digestOf(t, newKeys, &config.SessionKeys{}); got != read.Keys.Vault.SessionKeysDigest {
			t.Errorf("the session keys have digest %s, the API expects %s", got, read.Keys.Vault.SessionKeysDigest)
		}
		if got := digestOf(t, pepper, &config.Pepper{}); got != read.Keys.Vault.PepperDigest {
			t.Errorf("the pepper has digest %s, the API expects %s", got, read.Keys.Vault.PepperDigest)
		}
	})
	t.Run("service accounts", func(t *testing.T) {
		for name, uid := range c.accountUIDs(t, sn) {
			if accounts[name] == uid {
				t.Errorf("%s still has the UID %s", name, uid)
			}
		}
		for role, token := range tokens {
			client := c.vault.Client(t)
			client.ClearToken()
			if _, err := client.Logical().Write("auth/"+c.authMount+"/login", map[string]any{"role": role, "jwt": token}); !refused(err) {
				t.Errorf("role %s: a token of the old service account is not rejected: %v", role, err)
			}
		}
		renewed, err := c.login(t, config.RoleAPI, namespace, operand.APIServiceAccount("notes"), "vault")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := renewed.Logical().Read(directory + "/" + entry); err != nil {
			t.Errorf("the new service account cannot read the session keys: %v", err)
		}
	})
	t.Run("events", func(t *testing.T) {
		for _, kind := range []string{"KeyRotation", "SecureNotes"} {
			for _, reason := range []string{"ServiceAccountsRecreated", "BackupKeyReplaced", "SessionKeysReplaced", "SessionsEnded"} {
				c.awaitEvent(t, namespace, kind, reason)
			}
		}
		c.awaitEvent(t, namespace, "KeyRotation", "OldVersionRetired")
		c.awaitEvent(t, namespace, "SecureNotes", "VersionsRetired")
	})
	t.Run("backup key", func(t *testing.T) { testBackupKeyAfterCompromise(t, c, sn, signedBefore) })
	// What docs/key-rotation.md says is not undone, and the next step.
	t.Run("a stolen Vault token", func(t *testing.T) { testStolenVaultToken(t, c, stolen, directory+"/"+entry) })
	t.Run("lost session keys are not recreated", func(t *testing.T) { testLostSessionKeys(t, c, root, sn, entry) })
	t.Run("once more", func(t *testing.T) { testCompromiseAgain(t, c, sn) })
	t.Run("adopted", func(t *testing.T) { testAdoptedAfterCompromise(t, c, sn) })
}

// testStolenVaultToken: a stolen token works, and can be renewed, until Vault's administrator
// revokes it.
func testStolenVaultToken(t *testing.T, c *cluster, stolen *api.Client, path string) {
	if _, err := stolen.Auth().Token().RenewSelf(900); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := stolen.Logical().Read(path); err != nil {
		t.Errorf("read: %v", err)
	}
	if err := c.vault.Client(t).Sys().RevokePrefix("auth/" + c.authMount + "/login"); err != nil {
		t.Fatal(err)
	}
	if _, err := stolen.Logical().Read(path); !refused(err) {
		t.Errorf("the token was not revoked: %v", err)
	}
}

// testLostSessionKeys: missing session keys that are in use are reported, until they are restored.
func testLostSessionKeys(t *testing.T, c *cluster, root *api.Logical, sn *v1alpha1.SecureNotes, entry string) {
	path := config.KVPath(c.id, sn.Namespace, sn.Name) + "/" + entry
	lost := c.entry(t, "secret/data/"+path)
	if _, err := root.Delete("secret/metadata/" + path); err != nil {
		t.Fatal(err)
	}
	// A change of the spec makes the operator check Vault before the next resync.
	c.setTokenTTL(t, sn, "2h")
	message := c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyMissing)
	if !strings.Contains(message, path[strings.LastIndex(path, "/"):]) {
		t.Error(message)
	}
	if c.entry(t, "secret/data/"+path) != nil {
		t.Error("the session keys were recreated")
	}
	if _, err := root.Write("secret/data/"+path, map[string]any{"data": lost}); err != nil {
		t.Fatal(err)
	}
	c.setTokenTTL(t, sn, "3h")
	c.awaitCondition(t, sn.Namespace, sn.Name, v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// testCompromiseAgain: a second Compromise replaces the session keys that the first one created.
func testCompromiseAgain(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	kr := rotationOf(sn, "again")
	kr.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	entry := c.restart(t, sn.Namespace, sn.Name, 4)
	c.finishJob(t, sn.Namespace, "notes-rotate-v4-1")
	c.finishJob(t, sn.Namespace, "notes-verify-v4-1")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	c.hasValues(t, sn, append(plantedEntries(), "marker", "pepper", entry)...)
}

// testAdoptedAfterCompromise: an object that adopts retained keys uses their pepper, but its own
// session keys, because anyone may have planted those that exist. Delete leaves nothing.
func testAdoptedAfterCompromise(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes) {
	for _, name := range []string{"routine", "urgent", "again"} {
		if err := c.Delete(t.Context(), rotationOf(sn, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	c.deleted(t, sn)
	again := postgresNotes(sn.Namespace, sn.Name)
	again.Spec.AdoptRetainedKey, again.Spec.DeletionPolicy = new(true), v1alpha1.DeletionPolicyDelete
	if err := c.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	entry := c.restart(t, sn.Namespace, sn.Name, 4)
	await(t, "the secrets", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(again), again); err != nil {
			return err.Error()
		}
		if again.Status.SessionKeys != entry || again.Status.DeploymentID == "" {
			return fmt.Sprintf("%+v", again.Status)
		}
		return ""
	})
	if entry == sn.Status.SessionKeys || !cmp.Equal(again.Status.Pepper, sn.Status.Pepper) {
		t.Errorf("%s was adopted, or another pepper is used: %+v", entry, again.Status)
	}
	c.hasValues(t, sn, append(plantedEntries(), "marker", "pepper", sn.Status.SessionKeys, entry)...)
	c.deleted(t, again)
	c.hasValues(t, sn, plantedEntries()...)
}

// entry returns an entry of KV as an administrator reads it, or nil.
func (c *cluster) entry(t *testing.T, path string) map[string]any {
	t.Helper()
	secret, err := c.vault.Client(t).Logical().Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if secret == nil {
		return nil
	}
	data, _ := secret.Data["data"].(map[string]any)
	return data
}

// hasValues checks which entries of a SecureNotes in KV have readable values.
func (c *cluster) hasValues(t *testing.T, sn *v1alpha1.SecureNotes, want ...string) {
	t.Helper()
	path := config.KVPath(c.id, sn.Namespace, sn.Name)
	await(t, "the values in Vault", func() string {
		wanted := slices.Clone(want)
		current := &v1alpha1.SecureNotes{}
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), current); client.IgnoreNotFound(err) != nil {
			return err.Error()
		}
		for _, identity := range operand.DrillStatus(current).Identities {
			wanted = append(wanted, identity.Entry)
		}
		secret, err := c.vault.Client(t).Logical().List("secret/metadata/" + path)
		if err != nil {
			return err.Error()
		}
		var got []string
		if secret != nil {
			for _, key := range secret.Data["keys"].([]any) {
				if entry := key.(string); c.entry(t, "secret/data/"+path+"/"+entry) != nil {
					got = append(got, entry)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(wanted)
		if !slices.Equal(got, wanted) {
			return fmt.Sprintf("Vault has %q, want %q", got, wanted)
		}
		return ""
	})
}

func (c *cluster) accountUIDs(t *testing.T, sn *v1alpha1.SecureNotes) map[string]types.UID {
	t.Helper()
	uids := map[string]types.UID{}
	for _, account := range operand.ServiceAccounts(sn) {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(account), account); err != nil {
			t.Fatal(err)
		}
		uids[account.Name] = account.UID
	}
	return uids
}

func (c *cluster) setTokenTTL(t *testing.T, sn *v1alpha1.SecureNotes, ttl v1alpha1.Duration) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Spec.Auth = &v1alpha1.Auth{TokenTTL: ttl}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// awaitEvent waits for an event about an object of the kind.
func (c *cluster) awaitEvent(t *testing.T, namespace, kind, reason string) {
	t.Helper()
	await(t, fmt.Sprintf("event %s about a %s", reason, kind), func() string {
		list := &eventsv1.EventList{}
		if err := c.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		for _, event := range list.Items {
			if event.Regarding.Kind == kind && event.Reason == reason {
				return ""
			}
		}
		return "there is none"
	})
}
