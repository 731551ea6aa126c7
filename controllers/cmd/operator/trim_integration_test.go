//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// TestTrim: versions are destroyed only if both the object and Vault's administrator allow it,
// after a separate verification, not beyond what a backup needs, and not while the floor is
// lowered. Then nobody can restore them.
func TestTrim(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	sn := postgresNotes(namespace, "notes")
	sn.Spec.KeyRotation.Trim = &v1alpha1.Trim{After: "0s"}
	c.ready(t, sn)
	root := c.vault.Client(t).Logical()
	key := config.TransitKeyName(c.id, sn.Namespace, sn.Name)
	write := func(path string, data map[string]any) (map[string]any, error) {
		secret, err := root.Write("transit/"+path, data)
		if err != nil || secret == nil {
			return nil, err
		}
		return secret.Data, nil
	}
	sealed, err := write("encrypt/"+key, map[string]any{"plaintext": "AAAA", "context": "AAAA"})
	if err != nil {
		t.Fatal(err)
	}

	// The administrator has not allowed it.
	c.rotateAndRetire(t, sn, 2)
	c.finishJob(t, namespace, "notes-trim-v2-1")
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	if !strings.Contains(message, "operator vault-setup --cluster-id "+c.id) || !strings.Contains(message, "--allow-trim") {
		t.Errorf("the message does not say what to run: %s", message)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	if least := c.minAvailable(t, key); least != "0" {
		t.Fatalf("min_available_version is %s", least)
	}

	setup := c.setup()
	setup.AllowTrim = true
	if err := setup.Apply(t.Context(), c.vault.Client(t), io.Discard, false); err != nil {
		t.Fatal(err)
	}
	// A verification that finds a key under an old version prevents the trim.
	c.rotateAndRetire(t, sn, 3)
	c.failJob(t, namespace, "notes-trim-v3-1", config.ExitRetryable, `{"reason":"StaleRows","message":"an owner key is under version 1"}`)
	await(t, "the failed verification", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		list := sn.Status.MasterKey.Retirements
		if len(list) != 2 || !strings.Contains(list[1].Message, "an owner key is under version 1") || list[1].RetryTime == nil {
			return fmt.Sprintf("%+v", list)
		}
		return ""
	})
	if least := c.minAvailable(t, key); least != "0" {
		t.Fatalf("min_available_version is %s", least)
	}

	// One that finds nothing permits it, for the versions below the one that a backup needs.
	c.setTrim(t, sn, &v1alpha1.Trim{After: "0s", KeepFromVersion: new(int64(3))})
	c.rotateAndRetire(t, sn, 4)
	first := c.finishJob(t, namespace, "notes-trim-v4-1")
	c.awaitTrimmed(t, sn, 3, 1)
	if least := c.minAvailable(t, key); least != "3" {
		t.Errorf("min_available_version is %s", least)
	}
	if _, err := write("decrypt/"+key, map[string]any{"ciphertext": sealed["ciphertext"], "context": "AAAA"}); err == nil {
		t.Error("a destroyed version decrypts")
	}
	if _, err := write("keys/"+key+"/config", map[string]any{"min_decryption_version": 1}); err == nil {
		t.Error("Vault's administrator got a destroyed version back")
	}

	// A lowered floor indicates a restore. The versions that it needs stay, even if the policy no
	// longer names them.
	if _, err := write("keys/"+key+"/config", map[string]any{"min_decryption_version": 3}); err != nil {
		t.Fatal(err)
	}
	c.setTrim(t, sn, &v1alpha1.Trim{After: "0s"})
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonFloorsChanged)
	if name := c.trimJob(t, first); name != "" {
		t.Errorf("a verification was started: %s", name)
	}
	if _, err := write("keys/"+key+"/config", map[string]any{"min_decryption_version": 4}); err != nil {
		t.Fatal(err)
	}
	c.touchSpec(t, sn, "2h")
	// An operator whose status write was rejected by a conflict has not counted the first attempt.
	second := ""
	await(t, "another verification", func() string {
		if second = c.trimJob(t, first); second == "" {
			return "there is none"
		}
		return ""
	})
	c.finishJob(t, namespace, second)
	c.awaitTrimmed(t, sn, 4, 0)
	c.awaitEvent(t, namespace, "SecureNotes", "VersionsDestroyed")
}

// trimJob returns the name of a verification for a trim other than the given one, or an empty text.
func (c *cluster) trimJob(t *testing.T, other *batchv1.Job) string {
	t.Helper()
	jobs := &batchv1.JobList{}
	if err := c.List(t.Context(), jobs, client.InNamespace(other.Namespace)); err != nil {
		t.Fatal(err)
	}
	for _, job := range jobs.Items {
		if strings.HasPrefix(job.Name, "notes-trim-") && job.UID != other.UID && job.DeletionTimestamp == nil {
			return job.Name
		}
	}
	return ""
}

// rotateAndRetire carries out a rotation to a version and its retirement.
func (c *cluster) rotateAndRetire(t *testing.T, sn *v1alpha1.SecureNotes, to int64) {
	t.Helper()
	kr := rotationOf(sn, fmt.Sprintf("to-%d", to))
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.finishJob(t, sn.Namespace, fmt.Sprintf("notes-rotate-v%d-1", to))
	c.finishJob(t, sn.Namespace, fmt.Sprintf("notes-verify-v%d-1", to))
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	c.finishJob(t, sn.Namespace, fmt.Sprintf("notes-retire-v%d-1", to))
}

func (c *cluster) setTrim(t *testing.T, sn *v1alpha1.SecureNotes, trim *v1alpha1.Trim) {
	t.Helper()
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	before := sn.DeepCopy()
	sn.Spec.KeyRotation.Trim = trim
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func (c *cluster) awaitTrimmed(t *testing.T, sn *v1alpha1.SecureNotes, least int64, retirements int) {
	t.Helper()
	await(t, fmt.Sprintf("the end of the versions below %d", least), func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if key := sn.Status.MasterKey; key.MinAvailableVersion != least || len(key.Retirements) != retirements {
			return fmt.Sprintf("%+v", *key)
		}
		return ""
	})
}

func (c *cluster) minAvailable(t *testing.T, key string) string {
	t.Helper()
	secret, err := c.vault.Client(t).Logical().Read("transit/keys/" + key)
	if err != nil || secret == nil {
		t.Fatalf("read the key: %v", err)
	}
	return secret.Data["min_available_version"].(json.Number).String()
}
