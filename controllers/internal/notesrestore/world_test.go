package notesrestore

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const (
	backupID = "20261130T013000Z-k3v7m2qx5jd4w6ra"
	ownID    = "6f1c0000-0000-4000-8000-000000000001"
	otherID  = "6f1c0000-0000-4000-8000-000000000002"
	digest   = "91b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4b4"
)

var (
	ownPepper   = vaultadmin.Secret{Entry: "pepper-aaaaaaaaaaaaaaaa", Digest: digest}
	otherPepper = vaultadmin.Secret{Entry: "pepper-bbbbbbbbbbbbbbbb", Digest: digest}
)

func now() time.Time { return time.Unix(5000, 0) }

// fakeVault has the marker.
type fakeVault struct {
	crash        *crashtest.Crash
	deploymentID string
	pepper       vaultadmin.Secret
	// writes counts the changes, and fault is the error of each call; nil if there is none.
	writes int
	fault  error
}

func (v *fakeVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{Name: "default", Address: "https://vault:8200", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault"}
}

// RecordRestored is as that of vaultadmin.
func (v *fakeVault) RecordRestored(_ context.Context, d vaultadmin.Deployment, deploymentID string, pepper *vaultadmin.Secret) error {
	if d.UID != ownID || d.Directory != config.KVPath("cluster", "ns", "notes") {
		return errors.New("it is another deployment")
	}
	if v.fault != nil {
		return v.fault
	}
	if v.deploymentID == deploymentID && (pepper == nil || *pepper == v.pepper) && v.writes > 0 {
		return nil
	}
	return v.crash.Around(func() error {
		v.deploymentID, v.writes = deploymentID, v.writes+1
		if pepper != nil {
			v.pepper = *pepper
		}
		return nil
	})
}

// world is an API server and a Vault. The test plays the other controllers.
type world struct {
	*crashtest.APIServer
	crash *crashtest.Crash
	vault *fakeVault
	// report is what the pod of the Job reports, or failure how it fails.
	report  *config.RestoreReport
	failure *config.Termination
	// stuck keeps the Job from ending, and the pod of a deleted Job from ending as well.
	stuck bool
	// served reports whether the API ran while the Job did, and passes counts the passes.
	served bool
	passes int
}

// fork returns a copy of the world, in which c counts and strikes.
func (w *world) fork(t *testing.T, c *crashtest.Crash) *world {
	t.Helper()
	vault := *w.vault
	vault.crash = c
	fork := *w
	fork.APIServer, fork.crash, fork.vault = w.Fork(t), c, &vault
	return &fork
}

func notes(changes ...func(*v1alpha1.SecureNotes)) *v1alpha1.SecureNotes {
	sn := &v1alpha1.SecureNotes{
		ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns", UID: ownID},
		Spec: v1alpha1.SecureNotesSpec{
			Database: &v1alpha1.Database{Postgres: &v1alpha1.Postgres{URISecretRef: v1alpha1.SecretKeyReference{Name: "db", Key: "uri"}}},
			Backup:   &v1alpha1.BackupPolicy{Destination: v1alpha1.BackupDestination{PersistentVolumeClaim: &v1alpha1.BackupVolume{ClaimName: "backups"}}},
		},
		Status: v1alpha1.SecureNotesStatus{
			DeploymentID: ownID, Pepper: &v1alpha1.RecordedSecret{Entry: ownPepper.Entry, Digest: ownPepper.Digest},
			Database: &v1alpha1.DatabaseStatus{InUse: true},
		},
	}
	for _, change := range changes {
		change(sn)
	}
	return sn
}

func restore(name string, changes ...func(*v1alpha1.NotesRestore)) *v1alpha1.NotesRestore {
	nr := &v1alpha1.NotesRestore{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns", UID: types.UID(name + "-uid"), Generation: 1},
		Spec: v1alpha1.NotesRestoreSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}, ID: backupID, IdentitySecretRef: v1alpha1.SecretKeyReference{Name: "once", Key: "identity.txt"},
		},
	}
	for _, change := range changes {
		change(nr)
	}
	return nr
}

func fromEscrow(nr *v1alpha1.NotesRestore) {
	nr.Spec.EscrowIdentitySecretRef = &v1alpha1.SecretKeyReference{Name: "once", Key: "identity.txt"}
}

// newWorld returns a world with a SecureNotes that serves. The report is that of the escrow if the
// restore first is.
func newWorld(t *testing.T, c *crashtest.Crash, objects ...client.Object) *world {
	t.Helper()
	w := &world{
		crash: c, vault: &fakeVault{crash: c, deploymentID: ownID, pepper: ownPepper},
		report: &config.RestoreReport{ID: backupID, DeploymentID: ownID, Rows: 9, Notes: 5, Accounts: 2, Fence: 3},
	}
	for _, o := range objects {
		if nr, ok := o.(*v1alpha1.NotesRestore); ok && nr.Spec.EscrowIdentitySecretRef != nil {
			w.report.DeploymentID, w.report.FromEscrow, w.report.PepperEntry, w.report.PepperDigest = otherID, true, otherPepper.Entry, otherPepper.Digest
		}
	}
	labels := operand.Labels(notes(), operand.ComponentAPI)
	objects = append(objects,
		&appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns", Generation: 1},
			Spec:       appsv1.DeploymentSpec{Replicas: new(int32(2)), Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}}},
			Status:     appsv1.DeploymentStatus{ObservedGeneration: 1},
		},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notes-0", Namespace: "ns", Labels: labels}})
	w.APIServer = crashtest.NewAPIServer(t, rotations.Indexes, objects...)
	return w
}

// reconciler returns a new operator: nothing may depend on what the previous one remembered.
func (w *world) reconciler() *Reconciler {
	w.crash.Restart()
	return &Reconciler{
		Client: interceptor.NewClient(w.APIServer, w.crash.Interceptor(now)), Live: w.APIServer, Recorder: events.NewFakeRecorder(100),
		Vault:        func(string) (Vault, bool) { return w.vault, true },
		Environment:  operand.Environment{Image: "image", PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
		SetupCommand: func(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "operator vault-setup" },
		Now:          now,
	}
}

// get reads an object, and reports whether it exists.
func get[T client.Object](t *testing.T, w *world, name string, o T) (T, bool) {
	t.Helper()
	err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, o)
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return o, err == nil
}

func (w *world) restore(t *testing.T, name string) *v1alpha1.NotesRestore {
	t.Helper()
	nr, _ := get(t, w, name, &v1alpha1.NotesRestore{})
	return nr
}

func (w *world) parent(t *testing.T) *v1alpha1.SecureNotes {
	t.Helper()
	sn, _ := get(t, w, "notes", &v1alpha1.SecureNotes{})
	return sn
}

func (w *world) job(t *testing.T, nr *v1alpha1.NotesRestore) (*batchv1.Job, bool) {
	t.Helper()
	return get(t, w, operand.RestoreJobName(nr), &batchv1.Job{})
}

// pass runs one reconciliation, and returns the restore afterwards, or nil if it is gone.
func (w *world) pass(t *testing.T, name string) *v1alpha1.NotesRestore {
	t.Helper()
	key := client.ObjectKey{Namespace: "ns", Name: name}
	if _, err := w.reconciler().Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err != nil && !errors.Is(err, crashtest.ErrCrash) && !apierrors.IsConflict(err) {
		t.Fatalf("pass: %v", err)
	}
	nr, exists := get(t, w, name, &v1alpha1.NotesRestore{})
	if !exists {
		return nil
	}
	return nr
}

// play runs one pass, then plays the other controllers, and reports whether the restore continues.
func (w *world) play(t *testing.T) bool {
	t.Helper()
	nr := w.pass(t, "first")
	w.scale(t)
	if nr != nil {
		w.endJob(t, nr)
	}
	w.passes++
	return w.passes < 40 && nr != nil && (!restores.Ended(nr) || restores.HasFinalizer(nr))
}

// drive plays until the restore has ended.
func (w *world) drive(t *testing.T) *world {
	t.Helper()
	for w.play(t) {
	}
	return w
}

// scale plays the reconciler of the SecureNotes and the Deployment's controller.
func (w *world) scale(t *testing.T) {
	t.Helper()
	holding, err := restores.Holding(t.Context(), w, "ns", "notes")
	if err != nil {
		t.Fatal(err)
	}
	d, _ := get(t, w, "notes", &appsv1.Deployment{})
	pod, runs := get(t, w, "notes-0", &corev1.Pod{})
	d.Spec.Replicas = new(int32(2))
	if holding != nil {
		d.Spec.Replicas = new(int32(0))
	}
	if err := w.Update(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	switch {
	case holding != nil && runs:
		err = w.Delete(t.Context(), pod)
	case holding == nil && !runs:
		err = w.Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notes-0", Namespace: "ns", Labels: operand.Labels(notes(), operand.ComponentAPI)}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// endJob plays the Job controller and the kubelet.
func (w *world) endJob(t *testing.T, nr *v1alpha1.NotesRestore) {
	t.Helper()
	podName := operand.RestoreJobName(nr) + "-0-abcde"
	pod, podExists := get(t, w, podName, &corev1.Pod{})
	job, exists := w.job(t, nr)
	if !exists {
		if podExists && !w.stuck {
			if err := w.Delete(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	_, serves := get(t, w, "notes-0", &corev1.Pod{})
	w.served = w.served || serves && job.Status.CompletionTime == nil
	if !podExists {
		pod = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: podName, Namespace: "ns", Labels: map[string]string{
				batchv1.JobNameLabel: job.Name, operand.LabelInstance: "notes", operand.LabelManagedBy: operand.ManagedBy,
			},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		}}
		if err := w.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
	if w.stuck || job.Status.CompletionTime != nil {
		return
	}
	termination, exit, phase, kind := config.Termination{Reason: config.ReasonComplete, Message: "restored", Restore: w.report}, int32(0), corev1.PodSucceeded, batchv1.JobComplete
	if w.failure != nil {
		termination, exit, phase, kind = *w.failure, config.ExitConfiguration, corev1.PodFailed, batchv1.JobFailed
	}
	raw, err := json.Marshal(termination)
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: operand.JobContainer, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: exit, Message: string(raw), FinishedAt: metav1.NewTime(now())},
	}}}
	job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
	if w.failure == nil {
		job.Status.Succeeded, job.Status.CompletedIndexes, job.Status.CompletionTime = 1, "0", new(metav1.NewTime(now()))
	}
	if err := errors.Join(w.Status().Update(t.Context(), pod), w.Status().Update(t.Context(), job)); err != nil {
		t.Fatal(err)
	}
}

// condition returns the status and the reason of a condition, and its message.
func condition(nr *v1alpha1.NotesRestore, kind string) (state, message string) {
	c := meta.FindStatusCondition(nr.Status.Conditions, kind)
	if c == nil {
		return "", ""
	}
	return string(c.Status) + "/" + c.Reason, c.Message
}
