//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// hostileBackups are values of spec.backup that must be rejected, each with words of the rejection.
var hostileBackups = map[string]struct{ spec, want string }{
	"nothing":                         {spec: `{}`, want: "spec.backup.recipients"},
	"no destination":                  {spec: `{recipients: [AGE]}`, want: "spec.backup.destination"},
	"two destinations":                {spec: `{recipients: [AGE], destination: {persistentVolumeClaim: {claimName: a}, objectStore: {url: "https://s3.example.com/bucket"}}}`, want: "needs exactly one of objectStore and persistentVolumeClaim"},
	"a destination that is none":      {spec: `{recipients: [AGE], destination: {}}`, want: "destination"},
	"no recipients":                   {spec: `{recipients: [], DEST}`, want: "backup.recipients"},
	"too many recipients":             {spec: `{recipients: [` + strings.TrimSuffix(strings.Repeat("AGE, ", 17), ", ") + `], DEST}`, want: "backup.recipients"},
	"a recipient of another program":  {spec: `{recipients: ["ssh-ed25519 AAAA"], DEST}`, want: "backup.recipients[0]"},
	"an identity":                     {spec: `{recipients: ["AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQ"], DEST}`, want: "backup.recipients[0]"},
	"a mixture":                       {spec: `{recipients: [AGE, PQ], DEST}`, want: "because age refuses a mixture"},
	"a mixture in the escrow":         {spec: `{recipients: [AGE], escrow: {recipients: [PQ, AGE]}, DEST}`, want: "escrow.recipients must all have the form"},
	"an escrow for nobody":            {spec: `{recipients: [AGE], escrow: {}, DEST}`, want: "escrow.recipients"},
	"the volume of the database":      {spec: `{recipients: [AGE], destination: {persistentVolumeClaim: {claimName: x-data}}}`, want: "cannot be the volume of the embedded database"},
	"a claim of another namespace":    {spec: `{recipients: [AGE], destination: {persistentVolumeClaim: {claimName: ../other}}}`, want: "claimName"},
	"a bucket without TLS":            {spec: `{recipients: [AGE], destination: {objectStore: {url: "http://s3.example.com/bucket"}}}`, want: "objectStore.url"},
	"a bucket with credentials":       {spec: `{recipients: [AGE], destination: {objectStore: {url: "https://key:secret@s3.example.com/bucket"}}}`, want: "objectStore.url"},
	"a file":                          {spec: `{recipients: [AGE], destination: {objectStore: {url: "file:///var/run/secrets/vault/token"}}}`, want: "objectStore.url"},
	"a bucket with another parameter": {spec: `{recipients: [AGE], destination: {objectStore: {url: "https://s3.example.com/bucket?role=admin"}}}`, want: "objectStore.url"},
	"nothing kept":                    {spec: `{recipients: [AGE], keep: {}, DEST}`, want: "keep needs count, age or both"},
	"none kept":                       {spec: `{recipients: [AGE], keep: {count: 0}, DEST}`, want: "keep.count"},
	"too many kept":                   {spec: `{recipients: [AGE], keep: {count: 1001}, DEST}`, want: "keep.count"},
	"kept for a minute":               {spec: `{recipients: [AGE], keep: {age: 1m}, DEST}`, want: "keep.age must be 1h to 87600h"},
	"kept in days":                    {spec: `{recipients: [AGE], keep: {age: 3d}, DEST}`, want: "keep.age"},
	"a schedule without end":          {spec: `{recipients: [AGE], schedule: "` + strings.Repeat("*", 101) + `", DEST}`, want: "backup.schedule"},
	"a time zone that climbs":         {spec: `{recipients: [AGE], timeZone: "../etc/passwd", DEST}`, want: "backup.timeZone"},
}

// TestBackupAdmission: a spec.backup or a NotesBackup that cannot work is rejected with the message
// of the type. Meanwhile the operator reconciles other objects.
func TestBackupAdmission(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	words := strings.NewReplacer("AGE-", "AGE-", "AGE", string(testRecipient), "PQ", "age1pq1"+strings.Repeat("q", 1950),
		"DEST", "destination: {persistentVolumeClaim: {claimName: backups}}")
	for name, tc := range hostileBackups {
		t.Run(name, func(t *testing.T) {
			object := unstructuredOf(t, namespace, "SecureNotes", "x", `{tls: {secretRef: {name: a}}, backup: `+words.Replace(tc.spec)+`}`)
			err := c.Create(t.Context(), object, client.DryRunAll)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not rejected with %q: %v", tc.want, err)
			}
		})
	}
	for name, tc := range map[string]struct{ spec, want string }{
		"of nothing":                 {spec: `{}`, want: "secureNotesRef"},
		"of no name":                 {spec: `{secureNotesRef: {}}`, want: "secureNotesRef.name"},
		"of a name that is a number": {spec: `{secureNotesRef: {name: 5}}`, want: "secureNotesRef.name"},
	} {
		t.Run("a NotesBackup "+name, func(t *testing.T) {
			err := c.Create(t.Context(), unstructuredOf(t, namespace, "NotesBackup", "x", tc.spec), client.DryRunAll)
			if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("not rejected with %q: %v", tc.want, err)
			}
		})
	}
	// A NotesBackup of a SecureNotes that does not exist waits, and one of the next that exists is
	// not held up by it.
	sn := postgresNotes(namespace, "notes")
	lost := backupOf(sn, "lost")
	lost.Spec.SecureNotesRef.Name = "nowhere"
	if err := c.Create(t.Context(), lost); err != nil {
		t.Fatal(err)
	}
	c.awaitBackup(t, lost, v1alpha1.ReasonQueued, v1alpha1.ReasonSecureNotesNotFound)
	if err := c.Create(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	early := backupOf(sn, "early")
	if err := c.Create(t.Context(), early); err != nil {
		t.Fatal(err)
	}
	c.awaitBackup(t, early, v1alpha1.ConditionFailed, v1alpha1.ReasonBackupNotConfigured)
	changed := early.DeepCopy()
	changed.Spec.SecureNotesRef.Name = "nowhere"
	if err := c.Patch(t.Context(), changed, client.MergeFrom(early)); err == nil || !strings.Contains(err.Error(), "the spec of a NotesBackup cannot be changed") {
		t.Errorf("the spec is changed: %v", err)
	}
}

// awaitBackup waits until a NotesBackup has a state and a reason.
func (c *cluster) awaitBackup(t *testing.T, nb *v1alpha1.NotesBackup, state, reason string) {
	t.Helper()
	await(t, fmt.Sprintf("NotesBackup %s: %s %s", nb.Name, state, reason), func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(nb), nb); err != nil {
			return err.Error()
		}
		if nb.Status.State != state || nb.Status.Reason != reason {
			return fmt.Sprintf("%+v", nb.Status)
		}
		return ""
	})
}

// report plays the pod of a Job, which has succeeded.
func (c *cluster) report(t *testing.T, namespace, name string, termination config.Termination) {
	t.Helper()
	message, err := json.Marshal(termination)
	if err != nil {
		t.Fatal(err)
	}
	job := c.awaitJob(t, namespace, name)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name + "-0-x", Labels: job.Spec.Template.Labels,
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		},
		Spec: *job.Spec.Template.Spec.DeepCopy(),
	}
	pod.Labels[batchv1.JobNameLabel] = name
	if err := c.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: string(message)}},
	}}
	if err := c.Status().Update(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// TestWholeBackup: a backup from start to end on an API server that sets defaults, with the
// operator's rights and under the admission policies, while the next one waits for its turn.
func TestWholeBackup(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.Backup = bucketBackup()
	c.ready(t, sn)
	first, second := backupOf(sn, "first"), backupOf(sn, "before.the.upgrade")
	if err := c.Create(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	c.awaitBackup(t, first, v1alpha1.ReasonBackingUp, "")
	if err := c.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	c.awaitBackup(t, second, v1alpha1.ReasonQueued, "")
	job := c.awaitJob(t, namespace, "first")
	await(t, "the record of the Job", func() string {
		err := c.Get(context.Background(), client.ObjectKeyFromObject(first), first)
		if first.Status.JobUID == "" {
			return fmt.Sprint(first.Status, err)
		}
		return text(err)
	})
	spec := job.Spec.Template.Spec
	if !metav1.IsControlledBy(job, first) || spec.ServiceAccountName != "notes-securenotes-backup-escrow" || string(job.UID) != first.Status.JobUID {
		t.Errorf("Job of %v under account %s", job.OwnerReferences, spec.ServiceAccountName)
	}
	cm := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: spec.Volumes[0].ConfigMap.Name}, cm); err != nil {
		t.Fatal(err)
	}
	parsed, err := config.Parse([]byte(cm.Data[config.BackupFile]))
	if err != nil || !metav1.IsControlledBy(cm, first) || parsed.Backup.SecureNotesUID != string(sn.UID) || parsed.Keys.Vault.BackupKey != sn.Status.BackupKeys.Key {
		t.Errorf("configuration %+v of %v, error %v", parsed, cm.OwnerReferences, err)
	}
	at := time.Now().UTC().Truncate(time.Second)
	made := config.BackupReport{
		ID: "20261130T120000Z-k3v7m2qx5jd4w6ra", Sequence: at.Unix(), ArchiveSHA256: strings.Repeat("a", 64), ManifestSHA256: strings.Repeat("b", 64),
		Bytes: 4096, Escrow: true, Notes: 12, Accounts: 3, OldestKeyVersion: 1, NewestKeyVersion: 1, SnapshotAt: at, VerifiedAt: at, UploadedAt: at,
		Destination: &config.DestinationReport{ListedAt: at, Backups: 1, Bytes: 4096, OldestAt: at, OldestKeyVersion: 1},
	}
	c.report(t, namespace, "first", config.Termination{Reason: config.ReasonComplete, Message: "done", Backup: &made})
	c.finishJob(t, namespace, "first")
	c.awaitBackup(t, first, v1alpha1.ReasonComplete, "")
	if s := first.Status; s.ID != made.ID || s.Notes != 12 || s.Location != "https://s3.example.com/backups/notes" || s.Destination.Backups != 1 ||
		s.CompletionTime == nil || s.ObservedGeneration != first.Generation || !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionComplete) {
		t.Errorf("status %+v", s)
	}
	await(t, "the record of the end", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(first), first); err != nil {
			return err.Error()
		}
		if first.Annotations[v1alpha1.AnnotationEnded] != "first" || len(first.Finalizers) != 0 {
			return fmt.Sprintf("%+v", first.ObjectMeta)
		}
		return ""
	})
	c.awaitBackup(t, second, v1alpha1.ReasonBackingUp, "")
	name := operand.BackupJobName("before.the.upgrade")
	c.failJob(t, namespace, name, config.ExitConfiguration, `{"reason":"BackupRefused","message":"the database has a table of others"}`)
	c.awaitBackup(t, second, v1alpha1.ConditionFailed, config.ReasonBackupRefused)
	third := backupOf(sn, "third")
	if err := c.Create(t.Context(), third); err != nil {
		t.Fatal(err)
	}
	c.awaitBackup(t, third, v1alpha1.ReasonBackingUp, "")
	await(t, "spec.backup unset", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		sn.Spec.Backup = nil
		return text(c.Update(context.Background(), sn))
	})
	c.awaitBackup(t, third, v1alpha1.ConditionFailed, v1alpha1.ReasonBackupNotConfigured)
	await(t, "the Job of the third to be stopped", func() string {
		job := &batchv1.Job{}
		err := c.Get(context.Background(), client.ObjectKey{Namespace: namespace, Name: "third"}, job)
		if apierrors.IsNotFound(err) || err == nil && job.DeletionTimestamp != nil {
			return ""
		}
		return fmt.Sprint(job.Status, err)
	})
}
