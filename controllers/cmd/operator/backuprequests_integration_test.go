//go:build integration

package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestBackupIsRequested: the annotation requests one backup, whose end the SecureNotes shows.
// Without spec.backup, the operator deletes the service accounts of backups, and what it knows of
// them.
func TestBackupIsRequested(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = volumeBackup()
	c.ready(t, sn)
	accounts := operand.BackupServiceAccounts(sn)
	for _, account := range accounts {
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(account), &corev1.ServiceAccount{}); err != nil {
			t.Error(err)
		}
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupHealthy, metav1.ConditionUnknown, v1alpha1.ReasonUnknown)
	before := sn.DeepCopy()
	sn.Annotations = map[string]string{v1alpha1.AnnotationBackupRequestedAt: "now"}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	nb := &v1alpha1.NotesBackup{}
	await(t, "the requested backup", func() string {
		list := &v1alpha1.NotesBackupList{}
		if err := c.List(context.Background(), list, client.InNamespace(namespace)); err != nil {
			return err.Error()
		}
		if len(list.Items) != 1 || list.Items[0].Status.CreatedBy != v1alpha1.BackupByAnnotation || list.Items[0].Status.StartTime == nil {
			return fmt.Sprintf("%+v", list.Items)
		}
		nb = &list.Items[0]
		return ""
	})
	if len(nb.OwnerReferences) != 0 || nb.Labels[operand.LabelManagedBy] != operand.ManagedBy {
		t.Errorf("got %+v", nb.ObjectMeta)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupHealthy, metav1.ConditionUnknown, v1alpha1.ReasonBackingUp)
	completeBackup(t, c, nb)
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupHealthy, metav1.ConditionTrue, v1alpha1.ReasonBackupComplete)
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
		t.Fatal(err)
	}
	if status := sn.Status.Backup; status.LastHandledRequest != "now" || status.Last.Name != nb.Name || status.Last.Bytes != 5 || status.Destination.Backups != 3 {
		t.Errorf("got status %+v, with the message %q", status, message)
	}
	before = sn.DeepCopy()
	sn.Spec.Backup = nil
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing to be left of backups", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if sn.Status.Backup != nil || meta.FindStatusCondition(sn.Status.Conditions, v1alpha1.ConditionBackupHealthy) != nil {
			return fmt.Sprintf("%+v", sn.Status)
		}
		for _, account := range accounts {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(account), &corev1.ServiceAccount{}); !apierrors.IsNotFound(err) {
				return fmt.Sprint(account.Name, ": ", err)
			}
		}
		return ""
	})
}

// completeBackup completes a backup as its controller does at the end of its Job.
func completeBackup(t *testing.T, c *cluster, nb *v1alpha1.NotesBackup) {
	t.Helper()
	await(t, "the backup to be complete", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(nb), nb); err != nil {
			return err.Error()
		}
		before := nb.DeepCopy()
		nb.Status.CompletionTime, nb.Status.Bytes = new(metav1.NewTime(time.Now())), 5
		nb.Status.Destination = &v1alpha1.BackupDestinationStatus{Backups: 3}
		meta.SetStatusCondition(&nb.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonComplete})
		meta.RemoveStatusCondition(&nb.Status.Conditions, v1alpha1.ConditionReconciling)
		if err := c.Status().Patch(context.Background(), nb, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return err.Error()
		}
		return ""
	})
}
