//go:build integration

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

func rotationOf(sn *v1alpha1.SecureNotes, name string) *v1alpha1.KeyRotation {
	return &v1alpha1.KeyRotation{
		ObjectMeta: metav1.ObjectMeta{Namespace: sn.Namespace, Name: name},
		Spec:       v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: sn.Name}},
	}
}

func (c *cluster) awaitRotation(t *testing.T, kr *v1alpha1.KeyRotation, what string, check func() string) {
	t.Helper()
	await(t, "KeyRotation "+kr.Name+": "+what, func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(kr), kr); err != nil {
			return err.Error()
		}
		return check()
	})
}

func (c *cluster) awaitState(t *testing.T, kr *v1alpha1.KeyRotation, state string) {
	t.Helper()
	c.awaitRotation(t, kr, state, func() string {
		if kr.Status.State != state {
			return fmt.Sprintf("%+v", kr.Status)
		}
		return ""
	})
}

func (c *cluster) keyVersions(t *testing.T, sn *v1alpha1.SecureNotes) (latest, minDecryption, minEncryption string) {
	t.Helper()
	secret, err := c.vault.Client(t).Logical().Read("transit/keys/" + config.TransitKeyName(c.id, sn.Namespace, sn.Name))
	if err != nil || secret == nil {
		t.Fatalf("read the key: %v", err)
	}
	number := func(field string) string { return secret.Data[field].(json.Number).String() }
	return number("latest_version"), number("min_decryption_version"), number("min_encryption_version")
}

// TestWholeRotation: a rotation from start to end, while the next one waits for its turn.
func TestWholeRotation(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	sn.Spec.KeyRotation.Parallelism, sn.Spec.KeyRotation.MaxNotesPerSecond = new(int32(2)), new(int32(300))
	c.ready(t, sn)
	kr := rotationOf(sn, "first")
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	job := c.awaitJob(t, namespace, "notes-rotate-v2-1")
	if args := strings.Join(job.Spec.Template.Spec.Containers[0].Args, " "); !strings.Contains(args, "--shards=2") || !strings.Contains(args, "--max-notes-per-second=300") {
		t.Errorf("the Job's arguments: %s", args)
	}
	second := rotationOf(sn, "second")
	if err := c.Create(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	c.awaitState(t, second, v1alpha1.ReasonQueued)
	if latest, minDecryption, minEncryption := c.keyVersions(t, sn); latest != "2" || minDecryption != "1" || minEncryption != "2" {
		t.Errorf("versions: latest %s, decryption %s, encryption %s", latest, minDecryption, minEncryption)
	}
	if !metav1.IsControlledBy(job, kr) && kr.UID != job.OwnerReferences[0].UID {
		t.Errorf("the Job belongs to %+v", job.OwnerReferences)
	}
	t.Run("progress", func(t *testing.T) { testProgress(t, c, sn, kr) })
	c.finishJob(t, namespace, "notes-rotate-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonVerifying)
	c.finishJob(t, namespace, "notes-verify-v2-1")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	if *kr.Status.FromVersion != 1 || *kr.Status.ToVersion != 2 || kr.Status.Progress.Percent != 100 || len(kr.Finalizers) != 0 {
		await(t, "the finalizer", func() string {
			if err := c.Get(context.Background(), client.ObjectKeyFromObject(kr), kr); err != nil || len(kr.Finalizers) == 0 {
				return text(err)
			}
			return fmt.Sprintf("%+v", kr)
		})
	}
	// Retained for 0s: due at once, verified once more, then Vault rejects the old version.
	if retire := c.finishJob(t, namespace, "notes-retire-v2-1"); slices.Contains(retire.Spec.Template.Spec.Containers[0].Args, "--urgent") {
		t.Errorf("a routine retirement does not yield: %s", retire.Spec.Template.Spec.Containers[0].Args)
	}
	await(t, "the retirement", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if key := sn.Status.MasterKey; len(key.PendingRetirements) > 0 || key.MinDecryptionFloor != 2 || key.MinDecryptionVersion != 2 || key.LastRotationTime == nil {
			return fmt.Sprintf("%+v", *key)
		}
		return ""
	})
	if _, minDecryption, _ := c.keyVersions(t, sn); minDecryption != "2" {
		t.Errorf("min_decryption_version is %s", minDecryption)
	}
	c.awaitState(t, second, v1alpha1.ReasonReencrypting)
	c.finishJob(t, namespace, "notes-rotate-v3-1")
	c.finishJob(t, namespace, "notes-verify-v3-1")
	c.awaitState(t, second, v1alpha1.ReasonComplete)
	if latest, _, _ := c.keyVersions(t, sn); latest != "3" {
		t.Errorf("after two rotations the latest version is %s", latest)
	}
}

func testProgress(t *testing.T, c *cluster, sn *v1alpha1.SecureNotes, kr *v1alpha1.KeyRotation) {
	reports := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: sn.Namespace, Name: operand.ProgressName(sn.Name)}, reports); err != nil {
		t.Fatal(err)
	}
	before := reports.DeepCopy()
	reports.Data = map[string]string{
		"shard-0": `{"job":"notes-rotate-v2-1","notesDone":30,"notesTotal":100,"notesPerSecond":10,"conflicts":4}`,
		"shard-1": `{"job":"notes-rotate-v2-1","notesDone":999999,"notesTotal":100,"notesPerSecond":-5,"conflicts":3}`,
	}
	if err := c.Patch(t.Context(), reports, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitRotation(t, kr, "progress", func() string {
		p := kr.Status.Progress
		if p == nil || p.NotesDone != 130 || p.NotesTotal != 200 || p.Percent != 65 || p.NotesPerSecond != 10 || *p.SecondsLeft != 7 || p.Conflicts != 7 {
			return fmt.Sprintf("%+v", p)
		}
		return ""
	})
	await(t, "the metrics", func() string {
		want := fmt.Sprintf("\nsecurenotes_rotation_conflicts_total{name=\"notes\",namespace=%q} 7\n", sn.Namespace)
		if text := c.metrics(); !strings.Contains(text, want) {
			return fmt.Sprintf("no %q in %s", want, text)
		}
		return ""
	})
	c.printed(t, kr, map[string]string{"Percent": "65", "Notes/s": "10", "Seconds left": "7"})
}

// metrics returns the operator's metrics.
func (c *cluster) metrics() string {
	response, err := http.Get("http://" + c.config.MetricsBindAddress + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(raw)
}

// printed checks columns of kubectl get, which requests a table from the API server.
func (c *cluster) printed(t *testing.T, kr *v1alpha1.KeyRotation, want map[string]string) {
	t.Helper()
	raw, err := c.kube.RESTClient().Get().AbsPath("/apis", v1alpha1.GroupVersion.Group, v1alpha1.GroupVersion.Version, "namespaces", kr.Namespace, "keyrotations", kr.Name).
		SetHeader("Accept", "application/json;as=Table;g=meta.k8s.io;v=v1").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	table := metav1.Table{}
	if err := json.Unmarshal(raw, &table); err != nil {
		t.Fatal(err)
	}
	for i, column := range table.ColumnDefinitions {
		cell := fmt.Sprint(table.Rows[0].Cells[i])
		if wanted, found := want[column.Name]; found && (cell != wanted || column.Priority != 0) {
			t.Errorf("column %s: %s, of priority %d; want %s, in every output", column.Name, cell, column.Priority, wanted)
		}
		delete(want, column.Name)
	}
	for name := range want {
		t.Errorf("there is no column %s", name)
	}
}

// TestFailedRotation: a failed rotation says why, the old version still decrypts, and a retry
// continues.
func TestFailedRotation(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	kr := rotationOf(sn, "first")
	kr.Spec.Reason = v1alpha1.RotationCompromise
	if err := c.Create(t.Context(), kr); err != nil {
		t.Fatal(err)
	}
	c.failJob(t, namespace, "notes-rotate-v2-1", config.ExitConfiguration, `{"reason":"DatabaseMismatch","message":"the database belongs to another deployment"}`)
	c.awaitState(t, kr, v1alpha1.ConditionFailed)
	stalled := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionStalled)
	if stalled == nil || stalled.Reason != config.ReasonDatabaseMismatch || !strings.Contains(stalled.Message, "another deployment") || !strings.Contains(stalled.Message, v1alpha1.AnnotationRetryRequestedAt) {
		t.Errorf("Stalled: %+v", stalled)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionFalse, v1alpha1.ReasonRotationFailed)
	if _, minDecryption, _ := c.keyVersions(t, sn); minDecryption != "1" {
		t.Errorf("after a failure min_decryption_version is %s", minDecryption)
	}
	before := kr.DeepCopy()
	kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
	if err := c.Patch(t.Context(), kr, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.restart(t, namespace, "notes", 2)
	c.finishJob(t, namespace, "notes-rotate-v2-2")
	c.finishJob(t, namespace, "notes-verify-v2-2")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
	if kr.Status.Attempt != 2 || kr.Status.LastHandledRetryRequest != "now" {
		t.Errorf("status: %+v", kr.Status)
	}
	if latest, _, _ := c.keyVersions(t, sn); latest != "2" {
		t.Errorf("a retry changed the latest version to %s", latest)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionKeyRotationHealthy, metav1.ConditionTrue, v1alpha1.ReasonIdle)
}

// TestRequests: the annotation causes one rotation for each value.
func TestRequests(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	sn := postgresNotes(namespace, "notes")
	c.ready(t, sn)
	before := sn.DeepCopy()
	sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: "2026-01-01"}
	if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitJob(t, namespace, "notes-rotate-v2-1")
	await(t, "the echo", func() string {
		if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
			return err.Error()
		}
		if sn.Status.LastHandledRotateRequest != "2026-01-01" {
			return sn.Status.LastHandledRotateRequest
		}
		return ""
	})
	list := &v1alpha1.KeyRotationList{}
	if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != 1 {
		t.Fatalf("%v: %d rotations", err, len(list.Items))
	}
	kr := &list.Items[0]
	t.Run("a Job that was not recorded", func(t *testing.T) { testUnrecordedJob(t, c, kr) })
	t.Run("a forged Job", func(t *testing.T) { testForgedJob(t, c, kr) })
	t.Run("a value used again", func(t *testing.T) {
		for i, value := range []string{"2026-02-02", "2026-01-01"} {
			before := sn.DeepCopy()
			sn.Annotations[v1alpha1.AnnotationRotateRequestedAt] = value
			if err := c.Patch(t.Context(), sn, client.MergeFrom(before)); err != nil {
				t.Fatal(err)
			}
			await(t, "the echo", func() string {
				if err := c.Get(context.Background(), client.ObjectKeyFromObject(sn), sn); err != nil {
					return err.Error()
				}
				if sn.Status.HandledRotateRequests != int64(i+2) {
					return fmt.Sprintf("%+v", sn.Status)
				}
				return ""
			})
		}
		if err := c.List(t.Context(), list, client.InNamespace(namespace)); err != nil || len(list.Items) != 3 {
			t.Errorf("%v: %d rotations", err, len(list.Items))
		}
	})
}

// testUnrecordedJob: after a crash between the creation of a Job and its record, the Job is
// recognized, whatever defaults the API server has set.
func testUnrecordedJob(t *testing.T, c *cluster, kr *v1alpha1.KeyRotation) {
	own := c.awaitJob(t, kr.Namespace, "notes-rotate-v2-1")
	recorded := func() string {
		if kr.Status.ReencryptJobUID != string(own.UID) {
			return fmt.Sprintf("%+v", kr.Status)
		}
		return ""
	}
	c.awaitRotation(t, kr, "the record", recorded)
	before := kr.DeepCopy()
	kr.Status.ReencryptJobUID = ""
	if err := c.Status().Patch(t.Context(), kr, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	c.awaitRotation(t, kr, "another record of the Job", recorded)
}

// testForgedJob: a Job with the right name, labels and owner that the rotation did not create does
// not count, whatever it reports.
func testForgedJob(t *testing.T, c *cluster, kr *v1alpha1.KeyRotation) {
	own := c.awaitJob(t, kr.Namespace, "notes-rotate-v2-1")
	foreign := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: kr.Namespace, Name: "notes-verify-v2-1", Labels: own.Labels, OwnerReferences: own.OwnerReferences,
		},
		Spec: batchv1.JobSpec{
			CompletionMode: new(batchv1.IndexedCompletion), Completions: new(int32(1)),
			Template: corev1.PodTemplateSpec{Spec: own.Spec.Template.Spec},
		},
	}
	if err := c.Create(t.Context(), foreign); err != nil {
		t.Fatal(err)
	}
	c.finishJob(t, kr.Namespace, foreign.Name)
	c.finishJob(t, kr.Namespace, own.Name)
	c.awaitState(t, kr, v1alpha1.ConditionFailed)
	failed := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed)
	if failed.Reason != v1alpha1.ReasonNameConflict || !strings.Contains(failed.Message, "Job notes-verify-v2-1") {
		t.Errorf("Failed: %+v", failed)
	}
	before := kr.DeepCopy()
	kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "again"}
	if err := c.Patch(t.Context(), kr, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	testPatchedJob(t, c, kr)
}

// testPatchedJob: a Job with the recorded UID that was patched to complete without a pod does not
// count. One that was suspended for a while does.
func testPatchedJob(t *testing.T, c *cluster, kr *v1alpha1.KeyRotation) {
	patch := func(name string, change func(*batchv1.JobSpec)) {
		t.Helper()
		job := c.awaitJob(t, kr.Namespace, name)
		c.awaitRotation(t, kr, "the record of "+name, func() string {
			if kr.Status.ReencryptJobUID != string(job.UID) || len(kr.Status.ReencryptJobDigest) != 64 {
				return fmt.Sprintf("%+v", kr.Status)
			}
			return ""
		})
		before := job.DeepCopy()
		change(&job.Spec)
		if err := c.Patch(t.Context(), job, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	patch("notes-rotate-v2-2", func(spec *batchv1.JobSpec) { spec.Completions, spec.Parallelism = new(int32(0)), new(int32(0)) })
	c.completeJob(t, kr.Namespace, "notes-rotate-v2-2", "")
	c.awaitState(t, kr, v1alpha1.ConditionFailed)
	failed := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed)
	if failed.Reason != v1alpha1.ReasonJobFailed || !strings.Contains(failed.Message, "Job notes-rotate-v2-2 is complete, but its spec is not") {
		t.Errorf("Failed: %+v", failed)
	}
	before := kr.DeepCopy()
	kr.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "once more"}
	if err := c.Patch(t.Context(), kr, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	patch("notes-rotate-v2-3", func(spec *batchv1.JobSpec) { spec.Suspend = new(true) })
	patch("notes-rotate-v2-3", func(spec *batchv1.JobSpec) { spec.Suspend = new(false) })
	c.finishJob(t, kr.Namespace, "notes-rotate-v2-3")
	c.finishJob(t, kr.Namespace, "notes-verify-v2-3")
	c.awaitState(t, kr, v1alpha1.ReasonComplete)
}
