//go:build integration

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestOldKeyIsRefused: a stolen token of the operator writes a marker that gives a retained key to
// a new object. The object gets the key only if it requests an adoption, and its deletion does not
// destroy the key. A key that the operator itself began to create is completed.
func TestOldKeyIsRefused(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	first := postgresNotes(namespace, "notes")
	c.ready(t, first)
	key := config.TransitKeyName(c.id, namespace, "notes")
	c.deleted(t, first)
	c.ageKey(t, key, 24*time.Hour)
	// The keys of an even earlier object were destroyed, so the retained pepper has another name.
	pepper := "secret/destroy/" + config.KVPath(c.id, namespace, "notes") + "/" + config.PepperLeaf
	if _, err := c.vault.Client(t).Logical().Write(pepper, map[string]any{"versions": []int{1}}); err != nil {
		t.Fatal(err)
	}

	next := postgresNotes(namespace, "notes")
	next.Spec.DeletionPolicy = v1alpha1.DeletionPolicyDelete
	if err := c.Create(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
	marker := map[string]any{"data": map[string]any{"uid": next.UID, "deploymentID": next.UID, "clusterUID": c.uid(t)}}
	if _, err := c.operatorToken(t).Logical().Write("secret/data/"+config.KVPath(c.id, namespace, "notes")+"/"+config.MarkerLeaf, marker); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, next, "2h")
	await(t, "the old key to be refused", func() string {
		message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRetained)
		if !strings.Contains(message, key+" was created before this SecureNotes") {
			return message
		}
		return ""
	})

	if err := c.Delete(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	await(t, "the deletion to wait", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(next), next); err != nil {
			return err.Error()
		}
		ready := meta.FindStatusCondition(next.Status.Conditions, v1alpha1.ConditionReady)
		if !strings.Contains(ready.Message, "was created before this SecureNotes") || !strings.Contains(ready.Message, v1alpha1.AnnotationAbandonVault) {
			return fmt.Sprintf("%+v", ready)
		}
		return ""
	})
	c.change(t, next, func() { next.Annotations = map[string]string{v1alpha1.AnnotationAbandonVault: "true"} })
	c.awaitGone(t, next)
	if !c.keyExists(t, key) {
		t.Error("the retained key was destroyed")
	}
	t.Run("begun by a run that crashed", func(t *testing.T) { testBegunKey(t, c, namespace) })
}

// testBegunKey: the operator was killed after it created the key, and before it recorded anything.
func testBegunKey(t *testing.T, c *cluster, namespace string) {
	sn := postgresNotes(namespace, "begun")
	sn.Spec.Suspend = new(true)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	c.writeMarker(t, sn, config.Marker{UID: string(sn.UID), ClusterUID: c.uid(t), DeploymentID: string(sn.UID)})
	if _, err := c.vault.Client(t).Logical().Write("transit/keys/"+config.TransitKeyName(c.id, namespace, "begun"), map[string]any{"derived": true}); err != nil {
		t.Fatal(err)
	}
	c.change(t, sn, func() { sn.Spec.Suspend = nil })
	c.awaitCondition(t, namespace, "begun", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// ageKey makes Vault report a key as created that long ago.
func (c *cluster) ageKey(t *testing.T, key string, age time.Duration) {
	t.Helper()
	root := c.vault.Client(t).Logical()
	if _, err := root.Write("transit/keys/"+key+"/config", map[string]any{"exportable": true, "allow_plaintext_backup": true, "deletion_allowed": true}); err != nil {
		t.Fatal(err)
	}
	backup, err := root.Read("transit/backup/" + key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(backup.Data["backup"].(string))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	created := time.Now().Add(-age)
	policy := all["policy"]
	policy["exportable"], policy["allow_plaintext_backup"], policy["deletion_allowed"] = false, false, false
	for _, version := range policy["keys"].(map[string]any) {
		version.(map[string]any)["time"], version.(map[string]any)["creation_time"] = created, created.Unix()
	}
	if raw, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Delete("transit/keys/" + key); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Write("transit/restore/"+key, map[string]any{"backup": base64.StdEncoding.EncodeToString(raw)}); err != nil {
		t.Fatal(err)
	}
}
