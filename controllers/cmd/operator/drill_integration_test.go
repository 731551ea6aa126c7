//go:build integration

package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// awaitDrill waits until the status of the drills is as it should be; check returns nothing then.
func (c *cluster) awaitDrill(t *testing.T, sn *v1alpha1.SecureNotes, what string, check func(*v1alpha1.DrillStatus) bool) *v1alpha1.DrillStatus {
	t.Helper()
	await(t, what, func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if status := operand.DrillStatus(sn); !check(status) {
			return fmt.Sprintf("%+v", status)
		}
		return ""
	})
	return operand.DrillStatus(sn)
}

// completeDrillBackup makes a backup, and returns the recipients of its Job.
func (c *cluster) completeDrillBackup(t *testing.T, sn *v1alpha1.SecureNotes, name string) []string {
	t.Helper()
	nb := backupOf(sn, name)
	if err := c.Create(t.Context(), nb); err != nil {
		t.Fatal(err)
	}
	cm := &corev1.ConfigMap{}
	job := c.awaitJob(t, sn.Namespace, name)
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: sn.Namespace, Name: job.Spec.Template.Spec.Volumes[0].ConfigMap.Name}, cm); err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse([]byte(cm.Data[config.BackupFile]))
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	c.report(t, sn.Namespace, name, config.Termination{Reason: config.ReasonComplete, Message: "done", Backup: &config.BackupReport{
		ID: "20261130T120000Z-k3v7m2qx5jd4w6ra", Sequence: at.Unix(), ArchiveSHA256: strings.Repeat("a", 64), ManifestSHA256: strings.Repeat("b", 64),
		Bytes: 4096, NewestKeyVersion: 1, OldestKeyVersion: 1, SnapshotAt: at, VerifiedAt: at, UploadedAt: at,
	}})
	c.finishJob(t, sn.Namespace, name)
	c.awaitBackup(t, nb, v1alpha1.ReasonComplete, "")
	return parsed.Backup.Recipients
}

// TestDrill: the operator creates an identity for each SecureNotes, encrypts backups to it, and has
// a Job test the newest one, with the rights of the operator and under the admission policies. What
// the service account of the Job may read in Vault is the identity.
func TestDrill(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn, other := postgresNotes(namespace, "notes"), postgresNotes(namespace, "other")
	for _, each := range []*v1alpha1.SecureNotes{sn, other} {
		each.Spec.Backup = volumeBackup()
		c.ready(t, each)
	}
	created := func(status *v1alpha1.DrillStatus) bool {
		return len(status.Identities) == 1 && status.NextIdentity == nil
	}
	identity := c.awaitDrill(t, sn, "the identity", created).Identities[0]
	others := c.awaitDrill(t, other, "the other's identity", created).Identities[0]
	if identity.Entry == others.Entry || identity.Recipient == others.Recipient || identity.KeyVersion != 1 {
		t.Errorf("the identities are %+v and %+v", identity, others)
	}
	// The login that the Job has.
	pod, err := c.login(t, config.RoleDrill, namespace, operand.DrillServiceAccount("notes"), "vault")
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pod.KVv2("secret").Get(t.Context(), config.KVPath(c.id, namespace, "notes")+"/"+identity.Entry)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := secret.Data["identity"].(string)
	if _, recipient, err := (&config.DrillIdentity{Identity: value}).Parse(); err != nil || recipient != string(identity.Recipient) {
		t.Errorf("the entry has the identity of %s, %v; want that of %s", recipient, err, identity.Recipient)
	}
	if got := c.completeDrillBackup(t, sn, "first"); len(got) != 2 || got[1] != string(identity.Recipient) {
		t.Errorf("the backup is encrypted to %v", got)
	}

	// A drill is due.
	await(t, "an earlier drill", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		before := sn.DeepCopy()
		sn.Status.Backup.Drill.ObservedSchedule.Since = metav1.NewTime(time.Now().Add(-8 * 24 * time.Hour))
		return text(c.Status().Patch(context.Background(), sn, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	})
	status := c.awaitDrill(t, sn, "the record of the Job", func(status *v1alpha1.DrillStatus) bool { return status.JobUID != "" })
	name := operand.DrillJobName("notes", status.LastScheduleTime.Time)
	job := c.awaitJob(t, namespace, name)
	if string(job.UID) != status.JobUID || !metav1.IsControlledBy(job, sn) || job.Spec.Template.Spec.ServiceAccountName != operand.DrillServiceAccount("notes") {
		t.Errorf("the Job %s of %v has the account %s", job.UID, job.OwnerReferences, job.Spec.Template.Spec.ServiceAccountName)
	}
	c.report(t, namespace, name, config.Termination{Reason: config.ReasonComplete, Message: "It is restored.", Drill: &config.DrillReport{
		Result: config.DrillPassed, ID: "20261130T120000Z-k3v7m2qx5jd4w6ra", Sequence: 1, Entry: identity.Entry, Accounts: 3, Notes: 12, OwnerKeys: 3, Values: 5,
	}})
	c.finishJob(t, namespace, name)
	status = c.awaitDrill(t, sn, "the result", func(status *v1alpha1.DrillStatus) bool { return status.Result != "" })
	if status.Result != v1alpha1.DrillPassed || status.Notes != 12 || status.LastEntry != identity.Entry || status.StartTime != nil || status.LastPassedTime == nil {
		t.Errorf("the status is %+v", status)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupHealthy, metav1.ConditionTrue, v1alpha1.ReasonBackupComplete)
	if jobs := c.drillJobs(t, "other"); len(jobs) != 0 {
		t.Errorf("the other has the drills %v", jobs)
	}

	// Without spec.backup, the identity is destroyed.
	await(t, "spec.backup unset", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		sn.Spec.Backup = nil
		return text(c.Update(context.Background(), sn))
	})
	c.awaitDrill(t, sn, "no identity", func(status *v1alpha1.DrillStatus) bool { return sn.Status.Backup == nil && len(status.Identities) == 0 })
	if data := c.entry(t, "secret/data/"+config.KVPath(c.id, namespace, "notes")+"/"+identity.Entry); data != nil {
		t.Errorf("%s is still in Vault", identity.Entry)
	}
	if data := c.entry(t, "secret/data/"+config.KVPath(c.id, namespace, "other")+"/"+others.Entry); data == nil {
		t.Error("the other's identity is not in Vault any more")
	}
}

// drillJobs returns the names of the Jobs of the drills of a SecureNotes.
func (c *cluster) drillJobs(t *testing.T, name string) (names []string) {
	t.Helper()
	list := &batchv1.JobList{}
	labels := client.MatchingLabels{operand.LabelInstance: name, operand.LabelComponent: operand.ComponentDrill}
	if err := c.List(t.Context(), list, labels); err != nil {
		t.Fatal(err)
	}
	for _, job := range list.Items {
		names = append(names, job.Name)
	}
	return names
}

// TestDrillOfAnEarlierSetup: with the rights of a release without drills, backups are made, and
// only the drill says SetupMissing.
func TestDrillOfAnEarlierSetup(t *testing.T) {
	t.Parallel()
	c, namespace := apart(t, apartOptions{})
	policy, rules := c.operatorPolicy(t)
	var earlier []string
	for line := range strings.Lines(rules) {
		if !strings.Contains(line, config.DrillPrefix) {
			earlier = append(earlier, line)
		}
	}
	if err := c.vault.Client(t).Sys().PutPolicy(policy, strings.Join(earlier, "")); err != nil {
		t.Fatal(err)
	}
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = volumeBackup()
	c.ready(t, sn)
	if got := c.completeDrillBackup(t, sn, "first"); len(got) != 1 {
		t.Errorf("the backup is encrypted to %v", got)
	}
	message := c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionBackupHealthy, metav1.ConditionFalse, v1alpha1.ReasonSetupMissing)
	if !strings.Contains(message, "the drill of backups") || !strings.Contains(message, "operator vault-setup") {
		t.Error(message)
	}
	c.awaitReady(t, namespace, "notes")
	if status := c.awaitDrill(t, sn, "the status", func(*v1alpha1.DrillStatus) bool { return true }); len(status.Identities) > 0 || status.NextIdentity != nil {
		t.Errorf("the status is %+v", status)
	}
}
