package keyrotation

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

type fakeVault struct {
	crash *crashtest.Crash
	state vaultadmin.KeyState
	// sessionKeys are the entries that exist. made counts how many were ever created, and newest is
	// the last of them.
	sessionKeys []string
	made        int
	newest      vaultadmin.Secret
	// drawn and digests count the names and values that were chosen.
	drawn, digests int
	// refusal is the error of creating session keys; nil if they can be created.
	refusal error
	// revoked counts how often the database users were dropped. unrevoked is the error of dropping
	// them; nil if they can be dropped.
	revoked   int
	unrevoked error
	// backupKey is the latest version of the backup key, 0 if there is none, and signs the oldest
	// that may sign. backupKeyFault is the error of each call about it; nil if there is none.
	backupKey, signs int64
	backupKeyFault   error
	// lateBackupKeyFault is the error of the call that replaces the key; nil if there is none.
	lateBackupKeyFault error
	// sealAt is the call at which Vault becomes sealed, until it is unsealed; empty if none does.
	sealAt string
	sealed bool
}

// trouble is an error of Vault with a message of its own.
type trouble struct {
	problem vaultadmin.Problem
	message string
}

func (e trouble) Error() string { return e.message }

func (e trouble) Unwrap() error { return &vaultadmin.Error{Problem: e.problem} }

// answers returns an error if Vault is sealed at a call.
func (v *fakeVault) answers(call string) error {
	if v.sealed = v.sealed || call == v.sealAt; v.sealed {
		return trouble{vaultadmin.Sealed, "Vault at https://vault:8200 is sealed"}
	}
	return nil
}

func (v *fakeVault) unseal(*testing.T) { v.sealAt, v.sealed = "", false }

func (v *fakeVault) Connection() vaultadmin.Connection {
	return vaultadmin.Connection{Name: "default", Address: "https://vault:8200", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault"}
}

func (v *fakeVault) ReadKey(context.Context, string) (vaultadmin.KeyState, error) {
	return v.state, v.answers("ReadKey")
}

func (v *fakeVault) Rotate(context.Context, vaultadmin.Deployment) error {
	if err := v.answers("Rotate"); err != nil {
		return err
	}
	return v.crash.Around(func() error { v.state.Latest++; return nil })
}

func (v *fakeVault) RaiseMinEncryption(_ context.Context, _ vaultadmin.Deployment, version int64) error {
	if err := v.answers("RaiseMinEncryption"); err != nil {
		return err
	}
	return v.crash.Around(func() error { v.state.MinEncryption = max(v.state.MinEncryption, version); return nil })
}

// ReplaceSessionKeys records each entry before and after it is created.
func (v *fakeVault) ReplaceSessionKeys(ctx context.Context, d vaultadmin.Deployment, version int64) error {
	if err := cmp.Or(v.answers("ReplaceSessionKeys"), v.refusal); err != nil {
		return err
	}
	for secrets := d.Secrets; ; {
		next := secrets.NextSessionKeys
		if config.SessionKeysVersion(next.Entry) != version || slices.Contains(v.sessionKeys, next.Entry) {
			v.drawn++
			next.Entry = fmt.Sprintf("session-keys-%d%012d", version, v.drawn)
		}
		v.digests++
		next.Digest = fmt.Sprintf("%064d", v.digests)
		secrets.NextSessionKeys = next
		if err := d.Record(ctx, secrets); err != nil {
			return err
		}
		created := false
		err := v.crash.Around(func() error {
			if created = !slices.Contains(v.sessionKeys, next.Entry); created {
				v.sessionKeys, v.made, v.newest = append(v.sessionKeys, next.Entry), v.made+1, next
			}
			return nil
		})
		if err != nil {
			return err
		}
		if created {
			secrets.SessionKeys, secrets.NextSessionKeys = next, vaultadmin.Secret{}
			return d.Record(ctx, secrets)
		}
	}
}

func (v *fakeVault) RevokeDatabaseCredentials(context.Context, vaultadmin.Deployment) error {
	if err := cmp.Or(v.answers("RevokeDatabaseCredentials"), v.unrevoked); err != nil {
		return err
	}
	return v.crash.Around(func() error { v.revoked++; return nil })
}

func (v *fakeVault) LatestBackupKey(_ context.Context, d vaultadmin.Deployment) (int64, error) {
	if d.BackupKey != config.BackupKeyName("cluster", "ns", "notes") {
		return 0, fmt.Errorf("the key is %s", d.BackupKey)
	}
	if err := cmp.Or(v.answers("LatestBackupKey"), v.backupKeyFault); err != nil {
		return 0, err
	}
	if v.backupKey == 0 {
		return 0, trouble{vaultadmin.Missing, "the Transit key is not in Vault"}
	}
	return v.backupKey, nil
}

func (v *fakeVault) ReplaceBackupKey(_ context.Context, _ vaultadmin.Deployment, from int64) (int64, error) {
	return v.replaceBackupKey(from, func() {})
}

// replaceBackupKey calls decided after it has decided to add a version.
func (v *fakeVault) replaceBackupKey(from int64, decided func()) (int64, error) {
	if err := cmp.Or(v.answers("ReplaceBackupKey"), v.backupKeyFault, v.lateBackupKeyFault); err != nil {
		return 0, err
	}
	if v.backupKey < from {
		return 0, trouble{vaultadmin.Missing, fmt.Sprintf("the Transit key has no version %d any more", from)}
	}
	if v.backupKey == from {
		decided()
		if err := v.crash.Around(func() error { v.backupKey++; return nil }); err != nil {
			return 0, err
		}
	}
	if v.signs < v.backupKey {
		if err := v.crash.Around(func() error { v.signs = v.backupKey; return nil }); err != nil {
			return 0, err
		}
	}
	return v.backupKey, nil
}

func (v *fakeVault) DeleteOtherSessionKeys(_ context.Context, d vaultadmin.Deployment, replaced string) error {
	if replaced == "" && d.Secrets.SessionKeys.Digest != "" { // an earlier release records neither
		return errors.New("what was replaced is not recorded")
	}
	if err := v.answers("DeleteOtherSessionKeys"); err != nil {
		return err
	}
	return v.crash.Around(func() error {
		v.sessionKeys = slices.DeleteFunc(v.sessionKeys, func(e string) bool { return e != d.Secrets.SessionKeys.Entry })
		return nil
	})
}

func now() time.Time { return time.Unix(5000, 0) }

// world is an API server and a Vault. The test plays the other controllers.
type world struct {
	*crashtest.APIServer
	crash *crashtest.Crash
	vault *fakeVault
	// jobAccounts are the UIDs of the rotation's service account when each Job was created.
	jobAccounts []types.UID
	// recreated counts the service accounts that were recreated.
	recreated int
	// deleted are the Jobs that somebody has deleted before they ended, once each; nil if nobody
	// deletes any.
	deleted map[string]bool
	// passes counts the passes of play.
	passes int
}

// fork returns a copy of the world, in which c counts and strikes.
func (w *world) fork(t *testing.T, c *crashtest.Crash) *world {
	t.Helper()
	vault := *w.vault
	vault.crash, vault.sessionKeys = c, slices.Clone(w.vault.sessionKeys)
	fork := *w
	fork.APIServer, fork.crash, fork.vault = w.Fork(t), c, &vault
	fork.jobAccounts, fork.deleted = slices.Clone(w.jobAccounts), maps.Clone(w.deleted)
	return &fork
}

func newWorld(t *testing.T, c *crashtest.Crash, objects ...client.Object) *world {
	t.Helper()
	w := &world{crash: c, vault: &fakeVault{
		crash: c, state: vaultadmin.KeyState{Latest: 1, MinDecryption: 1}, sessionKeys: []string{config.SessionKeysLeaf},
		backupKey: 1, signs: 1,
	}}
	for _, desired := range operand.ServiceAccounts(notes()) {
		desired.UID = types.UID(desired.Name + "-first")
		objects = append(objects, desired)
	}
	template := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: operand.Labels(notes(), operand.ComponentAPI)}}
	// The finalizer is that of the reconciler of the SecureNotes.
	parent := notes()
	parent.Finalizers = []string{v1alpha1.Finalizer}
	objects = append(objects, parent,
		&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns"}, Spec: appsv1.DeploymentSpec{Template: template}},
		&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "notes-0", Namespace: "ns", Labels: template.Labels}})
	w.APIServer = crashtest.NewAPIServer(t, rotations.Indexes, objects...)
	return w
}

// reconciler returns a new operator: nothing may depend on what the previous one remembered.
func (w *world) reconciler(recorder events.EventRecorder) *Reconciler {
	w.crash.Restart()
	return &Reconciler{
		Client: interceptor.NewClient(w.APIServer, w.interceptor()), Live: w.APIServer, Recorder: recorder,
		Vault:        func(string) (Vault, bool) { return w.vault, true },
		Environment:  operand.Environment{Image: "image", PullPolicy: corev1.PullIfNotPresent, ClusterID: "cluster"},
		SetupCommand: func(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "operator vault-setup" },
		Now:          now,
	}
}

// interceptor also records the service account with which a Job is created.
func (w *world) interceptor() interceptor.Funcs {
	funcs := w.crash.Interceptor(now)
	create := funcs.Create
	funcs.Create = func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
		count := w.crash.Count
		err := create(ctx, c, o, opts...)
		if _, ok := o.(*batchv1.Job); !ok || w.crash.Count == count || o.GetUID() == "" {
			return err
		}
		account := &corev1.ServiceAccount{}
		if err := c.Get(ctx, client.ObjectKey{Namespace: "ns", Name: operand.RotationServiceAccount("notes")}, account); err != nil {
			return err
		}
		w.jobAccounts = append(w.jobAccounts, account.UID)
		return err
	}
	return funcs
}

func (w *world) rotation(t *testing.T, name string) *v1alpha1.KeyRotation {
	t.Helper()
	kr := &v1alpha1.KeyRotation{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, kr); err != nil {
		t.Fatal(err)
	}
	return kr
}

func (w *world) exists(t *testing.T, name string) bool {
	t.Helper()
	err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: name}, &v1alpha1.KeyRotation{})
	if client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	return err == nil
}

func (w *world) parent(t *testing.T) *v1alpha1.SecureNotes {
	t.Helper()
	parent := &v1alpha1.SecureNotes{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes"}, parent); err != nil {
		t.Fatal(err)
	}
	return parent
}

// releaseParent removes the finalizer of the SecureNotes.
func (w *world) releaseParent(t *testing.T) {
	t.Helper()
	parent := w.parent(t)
	parent.Finalizers = nil
	if err := w.Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
}

func (w *world) jobs(t *testing.T) []batchv1.Job {
	t.Helper()
	jobs := &batchv1.JobList{}
	if err := w.List(t.Context(), jobs); err != nil {
		t.Fatal(err)
	}
	return jobs.Items
}

// pass runs one reconciliation.
func (w *world) pass(t *testing.T, name string) *v1alpha1.KeyRotation {
	t.Helper()
	r := w.reconciler(events.NewFakeRecorder(100))
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: name}}); err != nil && !errors.Is(err, crashtest.ErrCrash) {
		t.Fatalf("pass: %v", err)
	}
	return w.rotation(t, name)
}

// endJobs plays the Job controller. Backups take longer.
func (w *world) endJobs(t *testing.T, kind batchv1.JobConditionType) {
	t.Helper()
	for _, job := range w.jobs(t) {
		if len(job.Status.Conditions) > 0 || job.Labels[operand.LabelComponent] == operand.ComponentBackup {
			continue
		}
		end(&job, kind)
		if err := w.Status().Update(t.Context(), &job); err != nil {
			t.Fatal(err)
		}
	}
}

// end ends a Job. A Job that completes has every pod that it asks for.
func end(job *batchv1.Job, kind batchv1.JobConditionType) {
	job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
	if kind != batchv1.JobComplete {
		return
	}
	var indexes []string
	for i := range *job.Spec.Completions {
		indexes = append(indexes, fmt.Sprint(i))
	}
	job.Status.Succeeded, job.Status.CompletedIndexes = *job.Spec.Completions, strings.Join(indexes, ",")
}

// terminatePods plays a pod of each running Job that reports why it ends.
func (w *world) terminatePods(t *testing.T, why config.Termination) {
	t.Helper()
	message, err := json.Marshal(why)
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range w.jobs(t) {
		if len(job.Status.Conditions) > 0 {
			continue
		}
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: job.Name + "-0", Namespace: "ns", Labels: map[string]string{batchv1.JobNameLabel: job.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		}}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: string(message)}},
		}}
		if err := w.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
}

// forgeJob creates a verification Job that does nothing, with our labels and owner, before the
// operator does.
func (w *world) forgeJob(t *testing.T) {
	t.Helper()
	own := w.jobs(t)[0]
	forged := &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: operand.VerifyJobName("notes", 2, 1), Namespace: "ns", UID: "forged", Labels: own.Labels, OwnerReferences: own.OwnerReferences},
		Spec:       own.Spec,
	}
	if err := w.Create(t.Context(), forged); err != nil {
		t.Fatal(err)
	}
}

// recreateAccounts plays the reconciler of the SecureNotes, which recreates missing children.
func (w *world) recreateAccounts(t *testing.T) {
	t.Helper()
	for _, account := range operand.ServiceAccounts(notes()) {
		account.UID = types.UID(fmt.Sprintf("%s-recreated-%d", account.Name, w.recreated))
		switch err := w.Create(t.Context(), account); {
		case err == nil:
			w.recreated++
		case !apierrors.IsAlreadyExists(err):
			t.Fatal(err)
		}
	}
}

// restart plays the reconciler of the SecureNotes and the Deployment controller: the pods restart
// with the session keys that the SecureNotes names.
func (w *world) restart(t *testing.T) {
	t.Helper()
	entry := w.parent(t).Status.SessionKeys
	if entry == "" {
		return
	}
	annotations := operand.Deployment(notes(), operand.Environment{SessionKeys: entry}, "hash").Spec.Template.Annotations
	deployment, pod := &appsv1.Deployment{}, &corev1.Pod{}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes"}, deployment); err != nil {
		t.Fatal(err)
	}
	if err := w.Get(t.Context(), client.ObjectKey{Namespace: "ns", Name: "notes-0"}, pod); err != nil {
		t.Fatal(err)
	}
	deployment.Spec.Template.Annotations, pod.Annotations = annotations, annotations
	for _, object := range []client.Object{deployment, pod} {
		if err := w.Update(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// retire plays the reconciler of the SecureNotes, which retires the old version.
func (w *world) retire(t *testing.T) {
	t.Helper()
	parent := w.parent(t)
	key := parent.Status.MasterKey
	if key == nil || len(key.PendingRetirements) == 0 {
		return
	}
	key.MinDecryptionFloor, key.PendingRetirements = key.PendingRetirements[0].ToVersion, nil
	if err := w.Status().Update(t.Context(), parent); err != nil {
		t.Fatal(err)
	}
}
