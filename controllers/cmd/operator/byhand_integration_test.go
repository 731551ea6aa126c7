//go:build integration

package main

import (
	"testing"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestVersionsByHand: Vault's administrator adds a version while no rotation runs, and one while a
// Job runs. Both versions stay, and the next rotation adds a newer one.
func TestVersionsByHand(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	adds := func() {
		t.Helper()
		path := "transit/keys/" + config.TransitKeyName(c.id, sn.Namespace, sn.Name) + "/rotate"
		if _, err := c.vault.Client(t).Logical().Write(path, nil); err != nil {
			t.Fatal(err)
		}
	}
	adds()
	first := rotationOf(sn, "first")
	c.rotating(t, first)
	c.mustBeFromTo(t, first, 2, 3)

	adds()
	c.finishJob(t, namespace, "notes-rotate-v3-1")
	c.finishJob(t, namespace, "notes-verify-v3-1")
	c.awaitState(t, first, v1alpha1.ReasonComplete)
	c.finishJob(t, namespace, "notes-retire-v3-1")
	await(t, "the retirement", func() string {
		if _, minDecryption, _ := c.keyVersions(t, sn); minDecryption != "3" {
			return "min_decryption_version is " + minDecryption
		}
		return ""
	})
	if latest, _, minEncryption := c.keyVersions(t, sn); latest != "4" || minEncryption != "3" {
		t.Errorf("versions: latest %s, encryption %s", latest, minEncryption)
	}

	second := rotationOf(sn, "second")
	c.rotating(t, second)
	c.mustBeFromTo(t, second, 4, 5)
	c.finishJob(t, namespace, "notes-rotate-v5-1")
	c.finishJob(t, namespace, "notes-verify-v5-1")
	c.awaitState(t, second, v1alpha1.ReasonComplete)
}

func (c *cluster) mustBeFromTo(t *testing.T, kr *v1alpha1.KeyRotation, from, to int64) {
	t.Helper()
	if kr.Status.FromVersion == nil || kr.Status.ToVersion == nil || *kr.Status.FromVersion != from || *kr.Status.ToVersion != to {
		t.Errorf("KeyRotation %s: %+v, want from version %d to %d", kr.Name, kr.Status, from, to)
	}
}
