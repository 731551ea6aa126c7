//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// awaitRestore waits until a NotesRestore has a state and a reason.
func (c *cluster) awaitRestore(t *testing.T, nr *v1alpha1.NotesRestore, state, reason string) {
	t.Helper()
	await(t, fmt.Sprintf("NotesRestore %s: %s %s", nr.Name, state, reason), func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(nr), nr); err != nil {
			return err.Error()
		}
		if nr.Status.State != state || nr.Status.Reason != reason {
			return fmt.Sprintf("%+v", nr.Status)
		}
		return ""
	})
}

// standStill plays the Deployment controller: the Deployment has been scaled to 0, and its pod
// ends.
func (c *cluster) standStill(t *testing.T, namespace, name string) {
	t.Helper()
	await(t, "Deployment "+name+" scaled to 0", func() string {
		d := &appsv1.Deployment{}
		if err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: name}, d); err != nil {
			return err.Error()
		}
		if ptr.Deref(d.Spec.Replicas, 1) != 0 {
			return fmt.Sprintf("%d replicas", ptr.Deref(d.Spec.Replicas, 1))
		}
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: d.Generation}
		return text(c.Status().Update(context.Background(), d))
	})
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-0"}}
	if err := client.IgnoreNotFound(c.Delete(t.Context(), pod, client.GracePeriodSeconds(0))); err != nil {
		t.Fatal(err)
	}
}

// escrowRestore is a restore from the escrow of another deployment, and what its Job reports. The
// pepper is in Vault, where the Job creates it.
func (c *cluster) escrowRestore(t *testing.T, sn *v1alpha1.SecureNotes, name string) (*v1alpha1.NotesRestore, config.RestoreReport) {
	t.Helper()
	nr := restoreOf(sn, name)
	pepper := config.NewPepper()
	digest, err := pepper.Digest()
	if err != nil {
		t.Fatal(err)
	}
	report := config.RestoreReport{
		ID: nr.Spec.ID, DeploymentID: "6f1c0000-0000-4000-8000-000000000002", Rows: 9, Notes: 5, Accounts: 2, FromEscrow: true,
		PepperEntry: config.NewPepperEntry(), PepperDigest: digest, Fence: 1,
	}
	raw, err := json.Marshal(pepper)
	if err != nil {
		t.Fatal(err)
	}
	value := map[string]any{}
	if err := json.Unmarshal(raw, &value); err != nil {
		t.Fatal(err)
	}
	kv := c.vault.Client(t).KVv2(defaultKVMount)
	if _, err := kv.Put(t.Context(), config.KVPath(c.id, sn.Namespace, sn.Name)+"/"+report.PepperEntry, value); err != nil {
		t.Fatal(err)
	}
	return nr, report
}

// TestWholeRestore: a restore from start to end on an API server that sets defaults, with the
// operator's rights, under the admission policies and with a real Vault. A backup, a rotation and
// another restore wait meanwhile.
func TestWholeRestore(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = bucketBackup()
	c.ready(t, sn)
	before := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), before); err != nil {
		t.Fatal(err)
	}
	nr, report := c.escrowRestore(t, sn, "back")
	if err := c.Create(t.Context(), nr); err != nil {
		t.Fatal(err)
	}
	c.awaitRestore(t, nr, v1alpha1.ReasonStopping, "")
	second, nb, kr := restoreOf(sn, "back-again"), backupOf(sn, "meanwhile"), rotationOf(sn, "meanwhile")
	for _, object := range []client.Object{second, nb, kr} {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	c.standStill(t, namespace, "notes")
	c.awaitRestore(t, nr, v1alpha1.ReasonRestoring, "")
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionReady, metav1.ConditionFalse, v1alpha1.ReasonRestoring)
	c.awaitRestore(t, second, v1alpha1.ReasonQueued, "")
	c.awaitBackup(t, nb, v1alpha1.ReasonQueued, "")
	await(t, "a queued rotation", func() string {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(kr), kr)
		if kr.Status.State != v1alpha1.ReasonQueued || kr.Status.StartTime != nil {
			return fmt.Sprintf("%+v", kr.Status)
		}
		return text(err)
	})

	job := c.awaitJob(t, namespace, operand.RestoreJobName(nr))
	spec := job.Spec.Template.Spec
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: spec.ServiceAccountName}}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(account), account); err != nil || account.Name != "notes-securenotes-restore" || !metav1.IsControlledBy(account, nr) || !metav1.IsControlledBy(job, nr) {
		t.Errorf("the Job of %v has the account %s of %v: %v", job.OwnerReferences, account.Name, account.OwnerReferences, err)
	}
	cm := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: spec.Volumes[0].ConfigMap.Name}, cm); err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse([]byte(cm.Data[config.RestoreFile]))
	if err != nil || parsed.Keys.Vault.Role != config.RoleRestore || parsed.Deployment.ID != string(sn.UID) || parsed.Backup.Destination.Directory == nil {
		t.Errorf("the configuration is %+v, %v", parsed, err)
	}
	if keys, err := config.ParseBackupKeys([]byte(cm.Data[config.PublicKeysFile])); err != nil || keys.Key != nr.Spec.PublicKeys.Key {
		t.Errorf("the public keys are %+v, %v", keys, err)
	}
	await(t, "the record of the Job", func() string {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(nr), nr)
		if nr.Status.JobUID != string(job.UID) {
			return fmt.Sprint(nr.Status, err)
		}
		return text(err)
	})
	c.report(t, namespace, job.Name, config.Termination{Reason: config.ReasonComplete, Message: "done", Restore: &report})
	c.finishJob(t, namespace, job.Name)
	c.awaitRestore(t, nr, v1alpha1.ReasonComplete, "")

	marker := c.entry(t, "secret/data/"+config.KVPath(c.id, namespace, "notes")+"/"+config.MarkerLeaf)
	if marker["deploymentID"] != report.DeploymentID || marker["pepper"] != report.PepperEntry || marker["pepperDigest"] != report.PepperDigest || marker["claimed"] != true || marker["uid"] != string(sn.UID) {
		t.Errorf("the marker is %v", marker)
	}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil || sn.Status.DeploymentID != report.DeploymentID || sn.Status.Pepper.Entry != report.PepperEntry {
		t.Errorf("the SecureNotes is %+v, %v", sn.Status, err)
	}
	following := &v1alpha1.KeyRotation{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: nr.Status.Rotation}, following); err != nil ||
		following.Status.CreatedBy != v1alpha1.CreatedByRestore || following.Spec.Strategy != v1alpha1.StrategyReencrypt {
		t.Errorf("the rotation that follows is %+v, %v", following, err)
	}
	await(t, "the end", func() string {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(account), account)
		if !apierrors.IsNotFound(err) {
			return fmt.Sprint("the account is left: ", err)
		}
		err = c.Get(context.Background(), client.ObjectKeyFromObject(nr), nr)
		if controllerutil.ContainsFinalizer(nr, v1alpha1.Finalizer) || nr.Annotations[v1alpha1.AnnotationEnded] != nr.Name {
			return fmt.Sprint(nr.ObjectMeta, err)
		}
		return text(err)
	})
	// The second one is its turn now. Its user gives it up.
	if err := c.Delete(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	await(t, "the second restore gone", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(second), second); !apierrors.IsNotFound(err) {
			return fmt.Sprint(second.Status, err)
		}
		return ""
	})
	c.awaitReady(t, namespace, "notes")
	after := &appsv1.Deployment{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), after); err != nil || *after.Spec.Replicas != *before.Spec.Replicas {
		t.Errorf("the Deployment has %v replicas, %v", after.Spec.Replicas, err)
	}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: operand.ConfigMapName("notes")}, cm); err != nil || !strings.Contains(cm.Data[config.APIFile], report.DeploymentID) || !strings.Contains(cm.Data[config.APIFile], report.PepperEntry) {
		t.Errorf("the pods get %s, %v", cm.Data[config.APIFile], err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
}

// TestRefusedRestore: the Job refuses the backup. The service goes on as it was.
func TestRefusedRestore(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	nr := restoreOf(sn, "back")
	if err := c.Create(t.Context(), nr); err != nil {
		t.Fatal(err)
	}
	c.awaitRestore(t, nr, v1alpha1.ReasonStopping, "")
	c.standStill(t, namespace, "notes")
	name := operand.RestoreJobName(nr)
	c.failJob(t, namespace, name, config.ExitConfiguration, `{"reason":"DatabaseNotEmpty","message":"the database has users: 2"}`)
	c.awaitRestore(t, nr, v1alpha1.ConditionFailed, config.ReasonDatabaseNotEmpty)
	c.awaitReady(t, namespace, "notes")
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil || sn.Status.DeploymentID != string(sn.UID) {
		t.Errorf("the deployment is %s, %v", sn.Status.DeploymentID, err)
	}
	// It is left for its logs, and goes with the object.
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, &batchv1.Job{}); err != nil {
		t.Error(err)
	}
}
