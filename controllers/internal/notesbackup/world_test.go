package notesbackup

import (
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func now() time.Time { return noon }

// notes returns a SecureNotes that can be backed up.
func notes() *v1alpha1.SecureNotes {
	return &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns", UID: "notes-uid"},
		Spec: v1alpha1.SecureNotesSpec{Backup: &v1alpha1.BackupPolicy{
			Recipients:  []v1alpha1.AgeRecipient{v1alpha1.AgeRecipient("age1" + strings.Repeat("q", 58))},
			Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}},
		}},
		Status: v1alpha1.SecureNotesStatus{
			DeploymentID: "notes-uid", BackupKeys: &v1alpha1.BackupKeysStatus{Key: "sn-backup-cluster.ns.notes"},
			Database: &v1alpha1.DatabaseStatus{InUse: true},
		},
	}
}

// backup returns a NotesBackup that was created so many seconds after noon.
func backup(name string, seconds int) *v1alpha1.NotesBackup {
	return &v1alpha1.NotesBackup{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name + "-uid"), Generation: 1, CreationTimestamp: metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))},
		Spec:       v1alpha1.NotesBackupSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
	}
}

// report returns what the Job of a backup reports.
func report() config.BackupReport {
	return config.BackupReport{
		ID: "20261130T120000Z-k3v7m2qx5jd4w6ra", Sequence: 1796040000,
		ArchiveSHA256: strings.Repeat("a", 64), ManifestSHA256: strings.Repeat("b", 64),
		Bytes: 4096, Escrow: true, Notes: 12, Accounts: 3, OldestKeyVersion: 1, NewestKeyVersion: 2,
		SnapshotAt: noon, VerifiedAt: noon.Add(time.Second), UploadedAt: noon.Add(2 * time.Second),
		Destination: &config.DestinationReport{
			ListedAt: noon.Add(3 * time.Second), Backups: 5, Bytes: 20480, OldestAt: noon.Add(-24 * time.Hour), OldestKeyVersion: 1, WithoutEscrow: 2,
			Invalid: 1, Deleted: 2, DeletionError: "access is denied", DeletionRefused: true,
		},
	}
}

// world is an API server. The test plays the other controllers.
type world struct {
	*crashtest.APIServer
	crash *crashtest.Crash
	// deleted are the Jobs that somebody has deleted before they ended, once each; nil if nobody
	// deletes any.
	deleted map[string]bool
	passes  int
}

func newWorld(t *testing.T, c *crashtest.Crash, objects ...client.Object) *world {
	t.Helper()
	w := &world{crash: c}
	w.APIServer = crashtest.NewAPIServer(t, nil, append(objects, notes(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns"}})...)
	return w
}

// fork returns a copy of the world, in which c counts and strikes.
func (w *world) fork(t *testing.T, c *crashtest.Crash) *world {
	t.Helper()
	fork := *w
	fork.APIServer, fork.crash, fork.deleted = w.Fork(t), c, maps.Clone(w.deleted)
	return &fork
}

// reconciler returns a new operator: nothing may depend on what the previous one remembered.
func (w *world) reconciler(recorder events.EventRecorder) *Reconciler {
	w.crash.Restart()
	return &Reconciler{
		Client: interceptor.NewClient(w.APIServer, w.crash.Interceptor(now)), Live: w.APIServer, Recorder: recorder,
		Connection: func(string) (vaultadmin.Connection, bool) {
			return vaultadmin.Connection{Name: "default", Address: "https://vault:8200", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault"}, true
		},
		Environment:  operand.Environment{Image: "image", PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
		SetupCommand: func(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "operator vault-setup" },
		Now:          now,
	}
}

// pass runs one reconciliation.
func (w *world) pass(t *testing.T, name string) *v1alpha1.NotesBackup {
	t.Helper()
	r := w.reconciler(events.NewFakeRecorder(100))
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: name}}); err != nil && !errors.Is(err, crashtest.ErrCrash) {
		t.Fatalf("pass: %v", err)
	}
	return w.backup(t, name)
}

func (w *world) backup(t *testing.T, name string) *v1alpha1.NotesBackup {
	t.Helper()
	nb := &v1alpha1.NotesBackup{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, nb); err != nil {
		t.Fatal(err)
	}
	return nb
}

func (w *world) jobs(t *testing.T) []batchv1.Job {
	t.Helper()
	jobs := &batchv1.JobList{}
	if err := w.List(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	return jobs.Items
}

func (w *world) configurations(t *testing.T) []corev1.ConfigMap {
	t.Helper()
	list := &corev1.ConfigMapList{}
	if err := w.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// completes plays the Job controller and the pods, which say what.
func (w *world) completes(t *testing.T, what config.BackupReport) {
	t.Helper()
	message, err := json.Marshal(config.Termination{Reason: config.ReasonComplete, Message: "done", Backup: &what})
	if err != nil {
		t.Fatal(err)
	}
	w.ends(t, batchv1.JobComplete, string(message))
}

// fails plays the Job controller and the pods, which say why.
func (w *world) fails(t *testing.T, reason, message string) {
	t.Helper()
	text, err := json.Marshal(config.Termination{Reason: reason, Message: message})
	if err != nil {
		t.Fatal(err)
	}
	w.ends(t, batchv1.JobFailed, string(text))
}

// ends ends every Job that runs, and its pod.
func (w *world) ends(t *testing.T, kind batchv1.JobConditionType, message string) {
	t.Helper()
	for _, job := range w.jobs(t) {
		if len(job.Status.Conditions) > 0 {
			continue
		}
		code := int32(1)
		job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
		if kind == batchv1.JobComplete {
			code, job.Status.Succeeded, job.Status.CompletedIndexes = 0, 1, "0"
		}
		w.terminate(t, &job, "0", code, message)
		if err := w.Status().Update(t.Context(), &job); err != nil {
			t.Fatal(err)
		}
	}
}

// terminate creates a pod of a Job that has ended with a message.
func (w *world) terminate(t *testing.T, job *batchv1.Job, suffix string, code int32, message string) {
	t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: job.Name + "-" + string(job.UID) + "-" + suffix, Namespace: "ns", Labels: map[string]string{batchv1.JobNameLabel: job.Name},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
	}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
	}}
	if err := w.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
}

// change changes the SecureNotes.
func (w *world) change(t *testing.T, change func(*v1alpha1.SecureNotes)) {
	t.Helper()
	parent := &v1alpha1.SecureNotes{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes"}, parent); err != nil {
		t.Fatal(err)
	}
	change(parent)
	status := parent.DeepCopy()
	err := w.Update(t.Context(), parent)
	if err == nil {
		status.ResourceVersion = parent.ResourceVersion
		err = w.Status().Update(t.Context(), status)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// remove deletes an object, as a person or another controller does.
func (w *world) remove(t *testing.T, object client.Object, name string) {
	t.Helper()
	object.SetNamespace("ns")
	object.SetName(name)
	if err := w.Delete(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// play runs one pass, then plays the other controllers, and reports whether the backup continues.
// No Job ends after a pass in which somebody has deleted one.
func (w *world) play(t *testing.T) bool {
	t.Helper()
	nb := w.pass(t, "first")
	if !w.deleteJob(t) {
		w.completes(t, report())
	}
	w.passes++
	return (!backups.Ended(nb) || nb.Annotations[v1alpha1.AnnotationEnded] == "") && w.passes < 40
}

// deleteJob deletes a Job, once, and reports whether it did.
func (w *world) deleteJob(t *testing.T) bool {
	t.Helper()
	if w.deleted == nil {
		return false
	}
	for _, job := range w.jobs(t) {
		if len(job.Status.Conditions) == 0 && !w.deleted[job.Name] {
			w.deleted[job.Name] = true
			w.remove(t, &batchv1.Job{}, job.Name)
			return true
		}
	}
	return false
}
