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

// TestRestoredVault: Vault is restored to a state without the newest version of the key, once
// during a rotation and once before its retirement. No version is retired or added, and everything
// continues once the newer state is restored.
func TestRestoredVault(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{ownVault: true})
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	older := c.vault.Snapshot(t)
	first := rotationOf(sn, "first")
	if err := c.Create(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, first, v1alpha1.ReasonReencrypting)
	newer := c.vault.Snapshot(t)

	c.vault.Restore(t, older)
	// The Job reports a canary under a version that Vault does not have.
	c.failJob(t, namespace, "notes-rotate-v2-1", config.ExitRetryable, `{"reason":"KeyMismatch","message":"the master key is not the one of this database"}`)
	c.mustBeRestored(t, first)
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRestored)
	if !strings.Contains(message, "version is 1, but there was a version 2") || !strings.Contains(message, "restore the newer one") {
		t.Error(message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionStalled, metav1.ConditionTrue, v1alpha1.ReasonKeyRestored)
	second := rotationOf(sn, "second")
	if err := c.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	c.mustBeRestored(t, second)
	if latest, minDecryption, _ := c.keyVersions(t, sn); latest != "1" || minDecryption != "1" {
		t.Errorf("a version was added in place of the lost one, or one was retired: latest %s, decryption %s", latest, minDecryption)
	}

	c.vault.Restore(t, newer)
	c.touchSpec(t, sn, "3h")
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	before := first.DeepCopy()
	first.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
	if err := c.Patch(t.Context(), first, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.finishJob(t, namespace, "notes-rotate-v2-2")
	c.finishJob(t, namespace, "notes-verify-v2-2")
	c.awaitState(t, first, v1alpha1.ReasonComplete)

	// The verification before the retirement runs.
	c.awaitJob(t, namespace, "notes-retire-v2-1")
	c.vault.Restore(t, older)
	c.finishJob(t, namespace, "notes-retire-v2-1")
	c.touchSpec(t, sn, "4h")
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionFalse, v1alpha1.ReasonKeyRestored)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	if key := sn.Status.MasterKey; len(key.PendingRetirements) != 1 || key.MinDecryptionFloor != 1 || key.LatestVersion != 2 {
		t.Errorf("a pending retirement was removed: %+v", key)
	}
	c.vault.Restore(t, newer)
	c.touchSpec(t, sn, "5h")
	await(t, "the retirement", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if key := sn.Status.MasterKey; len(key.PendingRetirements) > 0 || key.MinDecryptionVersion != 2 {
			return fmt.Sprintf("%+v", key)
		}
		return ""
	})
	if latest, minDecryption, _ := c.keyVersions(t, sn); latest != "2" || minDecryption != "2" {
		t.Errorf("versions: latest %s, decryption %s", latest, minDecryption)
	}
}

// mustBeRestored waits until the rotation has failed because Vault was restored, and says what to
// do.
func (c *cluster) mustBeRestored(t *testing.T, kr *v1alpha1.KeyRotation) {
	t.Helper()
	c.awaitState(t, kr, v1alpha1.ConditionFailed)
	failed := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed)
	if failed.Reason != v1alpha1.ReasonKeyRestored || !strings.Contains(failed.Message, "restore the newer one") || !strings.Contains(failed.Message, v1alpha1.AnnotationRetryRequestedAt) {
		t.Errorf("Failed: %+v", failed)
	}
}

// touchSpec changes the spec, so that the operator checks Vault before the next resync.
func (c *cluster) touchSpec(t *testing.T, sn *v1alpha1.SecureNotes, ttl string) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Spec.Auth = &v1alpha1.Auth{TokenTTL: v1alpha1.Duration(ttl)}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}
