package securenotes

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const restoredID = "0b1d0000-0000-4000-8000-00000000000b"

// markerVault holds the keys of an object, and a marker that can be changed.
type markerVault struct {
	completeVault
	deploymentID string
	ensured      int
	recorded     int
}

func (v *markerVault) Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error) {
	v.ensured++
	if d.DeploymentID != "" && d.DeploymentID != v.deploymentID {
		return vaultadmin.DeploymentState{}, &vaultadmin.Error{Problem: vaultadmin.Unsuitable}
	}
	state, err := v.completeVault.Ensure(ctx, d)
	state.DeploymentID = v.deploymentID
	return state, err
}

func (v *markerVault) RecordDatabase(context.Context, vaultadmin.Deployment, vaultadmin.DatabaseState, vaultadmin.DatabaseState) error {
	v.recorded++
	return nil
}

// standing is an object that serves, and its reconciler.
type standing struct {
	*Reconciler
	vault *markerVault
}

func newStanding(t *testing.T, change func(*v1alpha1.SecureNotes), objects ...client.Object) standing {
	t.Helper()
	sn := object()
	sn.UID, sn.Spec.Replicas = "0b1d0000-0000-4000-8000-00000000000a", new(int32(1))
	change(sn)
	vault := &markerVault{deploymentID: string(sn.UID)}
	w := standing{wholeReconciler(t, vault, append(objects, sn)...), vault}
	settle(t, w.Reconciler, 4)
	return w
}

func (w standing) deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	d := &appsv1.Deployment{}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(object()), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// begin creates a restore for which the object stands still.
func (w standing) begin(t *testing.T) *v1alpha1.NotesRestore {
	t.Helper()
	nr := &v1alpha1.NotesRestore{
		ObjectMeta: metav1.ObjectMeta{Name: "back", Namespace: "demo", UID: "nr"},
		Spec:       v1alpha1.NotesRestoreSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}, ID: "20261130T013000Z-k3v7m2qx5jd4w6ra"},
		Status:     v1alpha1.NotesRestoreStatus{StartTime: new(metav1.NewTime(now)), SecureNotesUID: "0b1d0000-0000-4000-8000-00000000000a"},
	}
	if err := w.Client.Create(t.Context(), nr); err != nil {
		t.Fatal(err)
	}
	return nr
}

// change updates an object as the fake client has it, status included.
func (w standing) change(t *testing.T, o client.Object, change func()) {
	t.Helper()
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	change()
	_, hasStatus := o.(*v1alpha1.SecureNotes)
	err := w.Client.Update(t.Context(), o)
	if hasStatus {
		change()
		err = w.Client.Status().Update(t.Context(), o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// end ends the restore.
func (w standing) end(t *testing.T, nr *v1alpha1.NotesRestore) {
	t.Helper()
	w.change(t, nr, func() {
		meta.SetStatusCondition(&nr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue, Reason: "Complete"})
	})
}

func readiness(sn *v1alpha1.SecureNotes, kind string) string {
	c := meta.FindStatusCondition(sn.Status.Conditions, kind)
	if c == nil {
		return ""
	}
	return string(c.Status) + "/" + c.Reason
}

// TestStandsStill: during a restore, the Deployment has 0 replicas and is otherwise as it was,
// whatever the spec says. Nothing is rotated, backed up or recorded about the database, and a
// verification Job ends. Afterwards all goes on.
func TestStandsStill(t *testing.T) {
	t.Parallel()
	w := newStanding(t, func(sn *v1alpha1.SecureNotes) {
		sn.Spec.Backup = &v1alpha1.BackupPolicy{Schedule: "@daily"}
		sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{URISecretRef: v1alpha1.SecretKeyReference{Name: "db", Key: "uri"}}}
	})
	before := w.deployment(t)
	if ptr.Deref(before.Spec.Replicas, 0) != 1 {
		t.Fatalf("the Deployment has %v replicas", before.Spec.Replicas)
	}
	nr := w.begin(t)
	w.change(t, nr, func() {
		meta.SetStatusCondition(&nr.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReconciling, Status: metav1.ConditionTrue, Reason: "SecretNotFound", Message: "Secret once not found"})
	})
	labels := operand.Labels(object(), operand.ComponentVerify)
	verification := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "notes-retire-v2-1", UID: "job", Labels: labels}}
	sn := object()
	w.change(t, sn, func() {
		sn.Spec.Replicas = new(int32(5))
		sn.Annotations = map[string]string{v1alpha1.AnnotationRotateRequestedAt: "now", v1alpha1.AnnotationBackupRequestedAt: "now"}
	})
	verification.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))}
	if err := w.Client.Create(t.Context(), verification); err != nil {
		t.Fatal(err)
	}
	recorded := w.vault.recorded
	for range 2 {
		// Somebody scales it up.
		d := w.deployment(t)
		w.change(t, d, func() { d.Spec.Replicas = new(int32(2)) })
		sn = settle(t, w.Reconciler, 2)
		if d := w.deployment(t); ptr.Deref(d.Spec.Replicas, 9) != 0 || d.Spec.Template.Spec.Containers[0].Image != before.Spec.Template.Spec.Containers[0].Image || len(d.OwnerReferences) != 1 {
			t.Fatalf("the Deployment is %+v", d.Spec)
		}
	}
	for kind, want := range map[string]string{
		v1alpha1.ConditionReady: "False/Restoring", v1alpha1.ConditionReconciling: "True/Restoring", v1alpha1.ConditionStalled: "",
		v1alpha1.ConditionDatabaseReady: "Unknown/Restoring", v1alpha1.ConditionWorkloadReady: "False/Restoring", v1alpha1.ConditionVaultReady: "True/Ready",
	} {
		if got := readiness(sn, kind); got != want {
			t.Errorf("%s is %s, want %s", kind, got, want)
		}
	}
	for _, kind := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionWorkloadReady} {
		if c := meta.FindStatusCondition(sn.Status.Conditions, kind); c == nil || !strings.Contains(c.Message, "NotesRestore back restores backup 2026") || !strings.Contains(c.Message, "Secret once not found") {
			t.Errorf("%s is %+v", kind, c)
		}
	}
	if names := append(rotationNames(t, w.Reconciler), backupNames(t, w.Reconciler)...); len(names) > 0 {
		t.Errorf("%s were created", names)
	}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(verification), verification); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the verification Job is still there: %v", err)
	}
	if w.vault.recorded != recorded {
		t.Error("the database was recorded")
	}
	w.end(t, nr)
	sn = settle(t, w.Reconciler, 2)
	if d := w.deployment(t); ptr.Deref(d.Spec.Replicas, 0) != 5 || readiness(sn, v1alpha1.ConditionWorkloadReady) == "False/Restoring" {
		t.Errorf("afterwards there are %d replicas, and WorkloadReady is %s", ptr.Deref(d.Spec.Replicas, -1), readiness(sn, v1alpha1.ConditionWorkloadReady))
	}
	if len(rotationNames(t, w.Reconciler)) != 1 || len(backupNames(t, w.Reconciler)) != 1 {
		t.Errorf("the requests made meanwhile are not handled: %s, %s", rotationNames(t, w.Reconciler), backupNames(t, w.Reconciler))
	}
}

// TestOtherRestores: a restore that is not certain, or that is of an earlier object of the name,
// has nothing stand still.
func TestOtherRestores(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*v1alpha1.NotesRestore){
		"not certain":          func(nr *v1alpha1.NotesRestore) { nr.Status.SecureNotesUID = "" },
		"of an earlier object": func(nr *v1alpha1.NotesRestore) { nr.Status.SecureNotesUID = "earlier" },
		"of another object":    func(nr *v1alpha1.NotesRestore) { nr.Spec.SecureNotesRef.Name = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStanding(t, func(*v1alpha1.SecureNotes) {})
			nr := w.begin(t)
			w.change(t, nr, func() { change(nr) })
			if sn := settle(t, w.Reconciler, 2); ptr.Deref(w.deployment(t).Spec.Replicas, 0) != 1 || readiness(sn, v1alpha1.ConditionReady) == "False/Restoring" {
				t.Errorf("it stands still: %+v", sn.Status)
			}
		})
	}
}

// TestRestoredDeployment: once the database is restored, the object does not compare its deployment
// with the marker until both have the new one. Then its pods get that.
func TestRestoredDeployment(t *testing.T) {
	t.Parallel()
	w := newStanding(t, func(*v1alpha1.SecureNotes) {})
	nr := w.begin(t)
	settle(t, w.Reconciler, 2)
	w.change(t, nr, func() { nr.Status.DeploymentID = restoredID })
	w.vault.deploymentID = restoredID
	w.Reconciler.vaultChecks.drop("0b1d0000-0000-4000-8000-00000000000a")
	ensured := w.vault.ensured
	if sn := settle(t, w.Reconciler, 2); readiness(sn, v1alpha1.ConditionVaultReady) != "True/Ready" || w.vault.ensured != ensured {
		t.Errorf("VaultReady is %s, after %d checks", readiness(sn, v1alpha1.ConditionVaultReady), w.vault.ensured-ensured)
	}
	sn := object()
	w.change(t, sn, func() { sn.Status.DeploymentID = restoredID })
	w.end(t, nr)
	sn = settle(t, w.Reconciler, 3)
	cm := &corev1.ConfigMap{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: "demo", Name: operand.ConfigMapName("notes")}, cm); err != nil {
		t.Fatal(err)
	}
	if sn.Status.DeploymentID != restoredID || !strings.Contains(cm.Data[config.APIFile], "id: "+restoredID) || ptr.Deref(w.deployment(t).Spec.Replicas, 0) != 1 {
		t.Errorf("the object has the deployment %s, and the pods get\n%s", sn.Status.DeploymentID, cm.Data[config.APIFile])
	}
}

// TestStaleCheckAfterARestore: the result of an earlier check of the keys does not bring the
// previous deployment back.
func TestStaleCheckAfterARestore(t *testing.T) {
	t.Parallel()
	w := newStanding(t, func(*v1alpha1.SecureNotes) {})
	w.vault.deploymentID = restoredID
	sn := object()
	w.change(t, sn, func() { sn.Status.DeploymentID = restoredID })
	if sn = settle(t, w.Reconciler, 2); sn.Status.DeploymentID != restoredID || readiness(sn, v1alpha1.ConditionVaultReady) != "True/Ready" {
		t.Errorf("the object has the deployment %s, VaultReady is %s", sn.Status.DeploymentID, readiness(sn, v1alpha1.ConditionVaultReady))
	}
}

// TestNoPodStartsTooEarly: the cache does not show a restore that is active, or that the deployment
// has changed. No pod starts.
func TestNoPodStartsTooEarly(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(standing, *testing.T){
		"an active restore": func(w standing, t *testing.T) { w.begin(t) },
		"another deployment": func(w standing, t *testing.T) {
			sn := object()
			w.change(t, sn, func() { sn.Status.DeploymentID = restoredID })
		},
		"another pepper": func(w standing, t *testing.T) {
			sn := object()
			w.change(t, sn, func() { sn.Status.Pepper.Entry = config.NewPepperEntry() })
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newStanding(t, func(*v1alpha1.SecureNotes) {})
			d := w.deployment(t)
			w.change(t, d, func() { d.Spec.Replicas = new(int32(0)) })
			sn := object()
			if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(sn), sn); err != nil {
				t.Fatal(err)
			}
			s := newScope(sn, w.Environment, now)
			if err := w.mayStart(t.Context(), s); err != nil {
				t.Fatalf("before: %v", err)
			}
			change(w, t)
			if err := w.mayStart(t.Context(), s); !stalecache.Is(err) {
				t.Errorf("a pod may start: %v", err)
			}
			// What runs already is not stopped by this.
			d.Status.Replicas = 1
			if err := w.Client.Status().Update(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if err := w.mayStart(t.Context(), s); err != nil {
				t.Errorf("with running pods: %v", err)
			}
		})
	}
}

// TestNoRetirementBesideARestore: neither a retirement nor a trim changes Vault while a restore is
// active that the cache does not show.
func TestNoRetirementBesideARestore(t *testing.T) {
	t.Parallel()
	w := newStanding(t, func(*v1alpha1.SecureNotes) {})
	sn := settle(t, w.Reconciler, 1)
	w.begin(t)
	s := newScope(sn, w.Environment, now)
	s.key = &vaultadmin.KeyState{Latest: 2, MinDecryption: 1}
	if err := w.raiseFloor(t.Context(), s, 2); !stalecache.Is(err) || sn.Status.MasterKey.MinDecryptionFloor > 1 {
		t.Errorf("the floor was raised: %v, %+v", err, sn.Status.MasterKey)
	}
	entry := &v1alpha1.Retirement{ToVersion: 2, Time: metav1.NewTime(now.Add(-time.Hour))}
	if err := w.destroyVersions(t.Context(), s, entry, 2); !stalecache.Is(err) {
		t.Errorf("versions were destroyed: %v", err)
	}
}

// TestLostVolumeIsRestoredInto: the volume of an embedded database is lost. A restore gets an empty
// one in its place, and nothing else does.
func TestLostVolumeIsRestoredInto(t *testing.T) {
	t.Parallel()
	w := newStanding(t, func(sn *v1alpha1.SecureNotes) { sn.Spec.Replicas = new(int32(1)) })
	key := client.ObjectKey{Namespace: "demo", Name: operand.ClaimName("notes")}
	claim := &corev1.PersistentVolumeClaim{}
	if err := w.Client.Get(t.Context(), key, claim); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	sn := object()
	w.change(t, sn, func() { sn.Status.Database = &v1alpha1.DatabaseStatus{InUse: true} })
	if sn = settle(t, w.Reconciler, 2); readiness(sn, v1alpha1.ConditionDatabaseReady) != "False/DatabaseLost" {
		t.Fatalf("DatabaseReady is %s", readiness(sn, v1alpha1.ConditionDatabaseReady))
	}
	nr := w.begin(t)
	if sn = settle(t, w.Reconciler, 2); readiness(sn, v1alpha1.ConditionDatabaseReady) != "Unknown/Restoring" {
		t.Errorf("DatabaseReady is %s", readiness(sn, v1alpha1.ConditionDatabaseReady))
	}
	if err := w.Client.Get(t.Context(), key, claim); err != nil || claim.Annotations[operand.AnnotationDeploymentID] != string(sn.UID) {
		t.Fatalf("the claim is %+v, %v", claim.Annotations, err)
	}
	// The restore records another deployment in the status first, and then on the volume.
	w.change(t, nr, func() { nr.Status.DeploymentID = restoredID })
	w.vault.deploymentID = restoredID
	w.change(t, sn, func() { sn.Status.DeploymentID = restoredID })
	if sn = settle(t, w.Reconciler, 2); readiness(sn, v1alpha1.ConditionWorkloadReady) != "False/Restoring" {
		t.Errorf("WorkloadReady is %s", readiness(sn, v1alpha1.ConditionWorkloadReady))
	}
	if err := w.Client.Get(t.Context(), key, claim); err != nil || claim.Annotations[operand.AnnotationDeploymentID] == restoredID {
		t.Errorf("the claim is %+v, %v", claim.Annotations, err)
	}
}

// TestRestoreWakes: the SecureNotes is reconciled when a restore for which it stands still says
// something else, and not when a queued one does.
func TestRestoreWakes(t *testing.T) {
	t.Parallel()
	for state, certain := range map[string]string{"queued": "", "certain": "uid"} {
		before := &v1alpha1.NotesRestore{Status: v1alpha1.NotesRestoreStatus{StartTime: new(metav1.NewTime(now)), SecureNotesUID: certain}}
		after := before.DeepCopy()
		after.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReconciling, Message: "Secret once not found"}}
		if got := restoreChanges(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != (certain != "") {
			t.Errorf("a %s restore wakes it: %t", state, got)
		}
	}
}
