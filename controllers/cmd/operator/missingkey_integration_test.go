//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestMissingKey: the master key is deleted in Vault. Neither the SecureNotes nor a rotation
// creates another one. Everything works again once a snapshot with the key is restored.
func TestMissingKey(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{ownVault: true})
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	key := config.TransitKeyName(c.id, sn.Namespace, sn.Name)
	snapshot := c.vault.Snapshot(t)
	root := c.vault.Client(t).Logical()
	if _, err := root.Write("transit/keys/"+key+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Delete("transit/keys/" + key); err != nil {
		t.Fatal(err)
	}

	c.touchSpec(t, sn, "3h")
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyMissing)
	if !strings.Contains(message, key) || !strings.Contains(message, "restore it from a backup of Vault") {
		t.Error(message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonKeyMissing)
	kr := rotationOf(sn, "first")
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.awaitRotation(t, kr, "to find no key", func() string {
		if found := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling); found == nil || found.Reason != v1alpha1.ReasonKeyMissing {
			return fmt.Sprintf("%+v", kr.Status)
		}
		return ""
	})
	// Each check of Vault is another chance to create a key.
	c.touchSpec(t, sn, "4h")
	await(t, "another check", func() string {
		current := &v1alpha1.SecureNotes{}
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), current); err != nil {
			return err.Error()
		}
		if current.Status.ObservedGeneration != sn.Generation {
			return fmt.Sprint(current.Status.ObservedGeneration)
		}
		return ""
	})
	if c.keyExists(t, key) {
		t.Fatal("a key was created in place of the missing one")
	}

	c.vault.Restore(t, snapshot)
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	c.awaitState(t, kr, v1alpha1.ReasonReencrypting)
	c.mustBeFromTo(t, kr, 1, 2)
	c.finishJob(t, namespace, "notes-rotate-v2-1")
	c.finishJob(t, namespace, "notes-verify-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
}
