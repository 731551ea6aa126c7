//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// operatorToken is a client with the operator's rights, as if its token was stolen.
func (c *cluster) operatorToken(t *testing.T) *api.Client {
	t.Helper()
	stolen, err := c.login(t, config.RoleOperator, operatorNamespace, operatorAccount, "vault")
	if err != nil {
		t.Fatal(err)
	}
	return stolen
}

// plantedEntries are the names of session keys in an earlier release.
func plantedEntries() (all []string) {
	for version := 2; version < 10; version++ {
		all = append(all, fmt.Sprintf("session-keys-%d", version))
	}
	return all
}

// plantSessionKeys creates entries in advance with a stolen token of the operator, with known keys.
func (c *cluster) plantSessionKeys(t *testing.T, directory string) *config.SessionKeys {
	t.Helper()
	planted, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	stolen := c.operatorToken(t).Logical()
	for _, entry := range plantedEntries() {
		if _, err := stolen.Write(directory+"/"+entry, map[string]any{"data": planted, "options": map[string]any{"cas": 0}}); err != nil {
			t.Fatal(err)
		}
	}
	return planted
}

// digestOf returns the digest of a value as Vault returns it.
func digestOf(t *testing.T, data map[string]any, into interface{ Digest() (string, error) }) string {
	t.Helper()
	raw, err := json.Marshal(data)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
	digest, err := into.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// TestPepperPlantedInVault: a pepper that exists in Vault before the object was set up blocks the
// object until it is deleted.
func TestPepperPlantedInVault(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	path := config.KVPath(c.id, namespace, "notes") + "/pepper"
	if _, err := c.operatorToken(t).Logical().Write("secret/data/"+path, map[string]any{"data": config.NewPepper()}); err != nil {
		t.Fatal(err)
	}
	sn := postgresNotes(namespace, "notes")
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyUnsuitable)
	if !strings.Contains(message, "anyone who created it knows the pepper") || !strings.Contains(message, "vault kv metadata delete -mount=secret "+path) {
		t.Error(message)
	}
	if _, err := c.vault.Client(t).Logical().Delete("secret/metadata/" + path); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "2h")
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	c.awaitRecorded(t, sn)
}

// awaitRecorded waits until the object is established, and compares what it records with Vault.
func (c *cluster) awaitRecorded(t *testing.T, sn *v1alpha1.SecureNotes) {
	t.Helper()
	await(t, "what is recorded", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if sn.Status.DeploymentID == "" || sn.Status.Pepper == nil || sn.Status.NextSessionKeys != nil {
			return fmt.Sprintf("%+v", sn.Status)
		}
		return ""
	})
	directory := "secret/data/" + config.KVPath(c.id, sn.Namespace, sn.Name) + "/"
	if got := digestOf(t, c.entry(t, directory+sn.Status.SessionKeys), &config.SessionKeys{}); got != sn.Status.SessionKeysDigest {
		t.Errorf("the session keys have digest %s, recorded is %s", got, sn.Status.SessionKeysDigest)
	}
	if got := digestOf(t, c.entry(t, directory+sn.Status.Pepper.Entry), &config.Pepper{}); got != sn.Status.Pepper.Digest {
		t.Errorf("the pepper has digest %s, recorded is %s", got, sn.Status.Pepper.Digest)
	}
	marker := c.entry(t, directory+"marker")
	if marker["pepper"] != sn.Status.Pepper.Entry || marker["pepperDigest"] != sn.Status.Pepper.Digest {
		t.Errorf("the marker is %v", marker)
	}
}

// testAfterShred: the operator's rights cannot restore what was destroyed. The next object of the
// name has a pepper with another name.
func testAfterShred(t *testing.T, c *cluster, namespace string) {
	archive := vaultadmin.Archive{Client: c.vault.Client(t), ClusterID: c.id, TransitMount: defaultTransitMount, KVMount: defaultKVMount}
	all, err := archive.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, kept := range all {
		if kept.Namespace == namespace && kept.Name == "notes" {
			t.Errorf("what was destroyed counts as retained: %+v", kept)
		}
	}
	path := "secret/data/" + config.KVPath(c.id, namespace, "notes") + "/pepper"
	planted := map[string]any{"data": config.NewPepper(), "options": map[string]any{"cas": 0}}
	if _, err := c.operatorToken(t).Logical().Write(path, planted); !refused(err) {
		t.Errorf("a pepper in place of a destroyed one: %v", err)
	}
	next := postgresNotes(namespace, "notes")
	if err := c.Create(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	c.awaitRecorded(t, next)
	if !strings.HasPrefix(next.Status.Pepper.Entry, "pepper-") {
		t.Errorf("the pepper is %s", next.Status.Pepper.Entry)
	}
	pod, err := c.login(t, config.RoleAPI, namespace, operand.APIServiceAccount("notes"), "vault")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pod.Logical().Read("secret/data/" + config.KVPath(c.id, namespace, "notes") + "/" + next.Status.Pepper.Entry); err != nil {
		t.Errorf("the API cannot read it: %v", err)
	}
}

// TestWithoutRightToShred: without --allow-shred a stolen token of the operator destroys neither
// keys nor peppers, and an object with deletionPolicy Delete reports the missing right.
func TestWithoutRightToShred(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	setup := c.setup()
	setup.AllowShred, setup.Withdraw.Shred = false, true
	if err := setup.Apply(t.Context(), c.vault.Client(t), io.Discard, false); err != nil {
		t.Fatal(err)
	}
	sn := postgresNotes(namespace, "notes")
	sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	// Only the deletion needs the right.
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	c.awaitRecorded(t, sn)
	stolen, key := c.operatorToken(t), config.TransitKeyName(c.id, namespace, "notes")
	path := config.KVPath(c.id, namespace, "notes")
	for _, a := range []attempt{
		{"write", "transit/keys/" + key + "/config", map[string]any{"deletion_allowed": true}},
		{"delete", "transit/keys/" + key, nil},
		{"write", "transit/keys/" + config.AuditKeyName(c.id, namespace, "notes") + "/config", map[string]any{"deletion_allowed": true}},
		{"write", "transit/keys/" + config.BackupKeyName(c.id, namespace, "notes") + "/config", map[string]any{"deletion_allowed": true}},
		{"write", "secret/destroy/" + path + "/pepper", map[string]any{"versions": []int{1}}},
	} {
		if err := a.run(stolen); !refused(err) {
			t.Errorf("%s %s was not rejected: %v", a.method, a.path, err)
		}
	}
	if err := c.Delete(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	await(t, "what is missing", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		for _, condition := range sn.Status.Conditions {
			if condition.Type == v1alpha1.ConditionReady && condition.Reason == v1alpha1.ReasonSetupMissing && strings.Contains(condition.Message, "--allow-shred") {
				return ""
			}
		}
		return fmt.Sprintf("%+v", sn.Status.Conditions)
	})
	if !meta.IsStatusConditionTrue(sn.Status.Conditions, v1alpha1.ConditionVaultReady) {
		t.Errorf("Vault is not ready: %+v", sn.Status.Conditions)
	}
	if !c.keyExists(t, key) {
		t.Error("the key is gone")
	}
	c.hasValues(t, sn, "marker", "pepper", sn.Status.SessionKeys)
	if err := c.setup().Apply(t.Context(), c.vault.Client(t), io.Discard, false); err != nil {
		t.Fatal(err)
	}
	// The operator retries within seconds; a change makes it retry at once.
	before := sn.DeepCopy()
	sn.Labels = map[string]string{"example.com/poke": "1"}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitGone(t, sn)
	c.hasValues(t, sn)
}

// TestPreviousRelease: what the previous release created keeps working with the policies that it
// wrote. Nothing restarts, the fixed names stay, and a Compromise and a deletion work as before.
// What they replace has the form of this release.
func TestPreviousRelease(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	raw, err := os.ReadFile("testdata/previous-policy.hcl")
	if err != nil {
		t.Fatal(err)
	}
	root := c.vault.Client(t)
	policy, _ := c.operatorPolicy(t)
	if err := root.Sys().PutPolicy(policy, strings.ReplaceAll(string(raw), "CLUSTER", c.id)); err != nil {
		t.Fatal(err)
	}
	sn := postgresNotes(namespace, "notes")
	sn.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	c.ready(t, sn)

	// The state that the previous release leaves: fixed names, and no digests.
	path := config.KVPath(c.id, namespace, "notes")
	keys, err := config.NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	for entry, data := range map[string]any{"session-keys": keys, "marker": map[string]any{"uid": sn.UID, "deploymentID": sn.UID}} {
		if _, err := root.Logical().Write("secret/data/"+path+"/"+entry, map[string]any{"data": data}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := root.Logical().Delete("secret/metadata/" + path + "/" + sn.Status.SessionKeys); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Status.SessionKeys, sn.Status.SessionKeysDigest, sn.Status.Pepper = "", "", nil
	if err := c.Status().Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "3h")
	await(t, "the configuration of the previous release", func() string {
		cm := &corev1.ConfigMap{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: operand.ConfigMapName("notes")}, cm); err != nil {
			return err.Error()
		}
		if text := cm.Data["api.yaml"]; !strings.Contains(text, "tokenTTL: 3h") || strings.Contains(text, "igest") || strings.Contains(text, "pepper") || strings.Contains(text, "sessionKeys") {
			return text
		}
		return ""
	})
	c.awaitReady(t, namespace, "notes")

	kr := rotationOf(sn, "urgent")
	kr.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	entry := c.restart(t, namespace, "notes", 2)
	c.finishJob(t, namespace, "notes-rotate-v2-1")
	c.finishJob(t, namespace, "notes-verify-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	c.hasValues(t, sn, "marker", "pepper", entry)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	// Its policy has no right to backup keys, and only these are missing.
	if replaced := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionBackupKeyReplaced); replaced == nil || replaced.Status != metav1.ConditionFalse ||
		replaced.Reason != v1alpha1.ReasonSetupMissing || !strings.Contains(replaced.Message, "operator vault-setup") {
		t.Errorf("BackupKeyReplaced: %+v", replaced)
	}
	if sn.Status.BackupKeys != nil || c.keyExists(t, config.BackupKeyName(c.id, namespace, "notes")) {
		t.Errorf("there is a backup key: %+v", sn.Status.BackupKeys)
	}
	got := digestOf(t, c.entry(t, "secret/data/"+path+"/"+entry), &config.SessionKeys{})
	if sn.Status.SessionKeys != entry || sn.Status.SessionKeysDigest != got || sn.Status.Pepper != nil {
		t.Errorf("digest %s; recorded %+v", got, sn.Status)
	}
	if err := c.Delete(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.deleted(t, sn)
	c.hasValues(t, sn)
	if c.keyExists(t, config.TransitKeyName(c.id, namespace, "notes")) {
		t.Error("the key still exists")
	}
}
