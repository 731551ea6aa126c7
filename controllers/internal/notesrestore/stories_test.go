package notesrestore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

func refusal() *config.Termination {
	return &config.Termination{Reason: config.ReasonBackupRefused, Message: "backup x: it is not signed: use another backup"}
}

// TestFailures: each failure of the Job is that of the restore, with the way back. The SecureNotes
// goes on.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		prepare func(*world)
		changes []func(*v1alpha1.NotesRestore)
		sn      func(*v1alpha1.SecureNotes)
		objects []client.Object
		reason  string
		says    []string
	}{
		"refused": {prepare: func(w *world) { w.failure = refusal() }, reason: "BackupRefused", says: []string{"it is not signed", "DatabaseRestoring", "create another NotesRestore"}},
		"not empty": {prepare: func(w *world) {
			w.failure = &config.Termination{Reason: config.ReasonDatabaseNotEmpty, Message: "2 users"}
		}, reason: "DatabaseNotEmpty", says: []string{"has not been changed"}},
		"no identity": {prepare: func(w *world) {
			w.failure = &config.Termination{Reason: config.ReasonConfigInvalid, Message: "no file"}
		}, reason: "ConfigInvalid", says: []string{"no file", "key identity.txt of Secret once", "DatabaseRestoring", "otherwise it has not been changed"}},
		"no report":          {prepare: func(w *world) { w.report = nil }, reason: "JobFailed", says: []string{"its pod reported no restore", "see the log"}},
		"of another backup":  {prepare: func(w *world) { w.report.ID = "20261130T013000Z-aaaaaaaaaaaaaaaa" }, reason: "JobFailed", says: []string{"a value of id"}},
		"another deployment": {prepare: func(w *world) { w.report.DeploymentID = otherID }, reason: "JobFailed", says: []string{"another deployment than that of the SecureNotes"}},
		"no deployment":      {prepare: func(w *world) { w.report.DeploymentID = "../x" }, reason: "JobFailed", says: []string{"a value of deploymentID"}},
		"a pepper nobody asked for": {prepare: func(w *world) { w.report.PepperEntry, w.report.PepperDigest = otherPepper.Entry, digest }, reason: "JobFailed",
			says: []string{"a value of pepperEntry"}},
		"no pepper": {changes: []func(*v1alpha1.NotesRestore){fromEscrow}, prepare: func(w *world) { w.report.PepperEntry = config.PepperLeaf }, reason: "JobFailed",
			says: []string{"a value of pepperEntry"}},
		"nowhere": {sn: func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup = nil }, reason: "BackupNotConfigured", says: []string{"spec.destination", "has not been changed"}},
		"an account of others": {objects: []client.Object{&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: operand.RestoreServiceAccount("notes"), UID: "others",
		}}}, reason: "NameConflict", says: []string{"ServiceAccount notes-securenotes-restore", "delete it"}},
		"a Job of others": {objects: []client.Object{&batchv1.Job{ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: operand.RestoreJobName(restore("first")), UID: "others",
		}}}, reason: "NameConflict", says: []string{"Job notes-restore-", "delete it"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sn := notes()
			if tc.sn != nil {
				tc.sn(sn)
			}
			w := newWorld(t, &crashtest.Crash{}, append(tc.objects, sn, restore("first", tc.changes...))...)
			if tc.prepare != nil {
				tc.prepare(w)
			}
			w.drive(t)
			nr := w.restore(t, "first")
			state, message := condition(nr, v1alpha1.ConditionFailed)
			if state != "True/"+tc.reason {
				t.Fatalf("the restore ends with %+v", nr.Status)
			}
			for _, words := range tc.says {
				if !strings.Contains(message, words) {
					t.Errorf("the message lacks %q: %s", words, message)
				}
			}
			if tc.reason == v1alpha1.ReasonJobFailed && strings.Contains(message, "has not been changed") {
				t.Errorf("nobody knows that: %s", message)
			}
			if w.vault.writes != 0 || w.parent(t).Status.DeploymentID != ownID {
				t.Error("the deployment has changed")
			}
			if account, exists := get(t, w, operand.RestoreServiceAccount("notes"), &corev1.ServiceAccount{}); exists && account.UID != "others" {
				t.Error("the service account is left")
			}
			if _, serves := get(t, w, "notes-0", &corev1.Pod{}); !serves {
				t.Error("no pod of the API runs afterwards")
			}
		})
	}
}

// TestOwnDestination: a restore needs no spec.backup if it says where the backup is.
func TestOwnDestination(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, notes(func(sn *v1alpha1.SecureNotes) { sn.Spec.Backup = nil }), restore("first", func(nr *v1alpha1.NotesRestore) {
		nr.Spec.Destination = &v1alpha1.BackupDestination{ObjectStore: &v1alpha1.ObjectStore{URL: "https://s3.example.com/bucket"}}
	})).drive(t)
	mustBeRestored(t, w, ownID, ownPepper)
}

// TestWaits: what a restore waits for, before it has the SecureNotes stand still.
func TestWaits(t *testing.T) {
	t.Parallel()
	old := metav1.NewTime(time.Unix(1, 0))
	rotation := func(change func(*v1alpha1.KeyRotation)) *v1alpha1.KeyRotation {
		kr := &v1alpha1.KeyRotation{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kr", UID: "kr"}, Spec: v1alpha1.KeyRotationSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"},
		}}
		change(kr)
		return kr
	}
	backup := func(change func(*v1alpha1.NotesBackup)) *v1alpha1.NotesBackup {
		nb := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "nb", UID: "nb"}, Spec: v1alpha1.NotesBackupSpec{
			SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"},
		}}
		change(nb)
		return nb
	}
	suspended := notes(func(sn *v1alpha1.SecureNotes) { sn.Spec.Suspend = new(true) })
	for name, tc := range map[string]struct {
		sn      *v1alpha1.SecureNotes
		objects []client.Object
		reason  string
		says    string
	}{
		"no SecureNotes":     {sn: nil, reason: "SecureNotesNotFound", says: "does not exist in this namespace"},
		"suspended":          {sn: suspended, reason: "Suspended", says: "set its spec.suspend to false"},
		"no keys yet":        {sn: notes(func(sn *v1alpha1.SecureNotes) { sn.Status.DeploymentID = "" }), reason: "SecureNotesNotReady", says: "no master key yet"},
		"a started rotation": {sn: notes(), objects: []client.Object{rotation(func(kr *v1alpha1.KeyRotation) { kr.Status.StartTime = &old })}, reason: "", says: "waits for KeyRotation kr to end"},
		"a started backup":   {sn: notes(), objects: []client.Object{backup(func(nb *v1alpha1.NotesBackup) { nb.Status.StartTime = &old })}, reason: "", says: "waits for NotesBackup nb to end"},
		"an older restore": {sn: notes(), objects: []client.Object{restore("a-first", func(nr *v1alpha1.NotesRestore) {
			nr.Status.StartTime, nr.Status.SecureNotesUID = &old, ownID
		})}, reason: "", says: "waits for NotesRestore a-first to end"},
		"an older one that is queued": {sn: notes(), objects: []client.Object{restore("a-first")}, reason: "", says: "waits for NotesRestore a-first to end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			objects := append(tc.objects, restore("first"))
			if tc.sn != nil {
				objects = append(objects, tc.sn)
			}
			w := newWorld(t, &crashtest.Crash{}, objects...)
			nr := w.pass(t, "first")
			for range 3 {
				nr = w.pass(t, "first")
			}
			if _, message := condition(nr, v1alpha1.ConditionReconciling); nr.Status.State != v1alpha1.ReasonQueued || nr.Status.Reason != tc.reason || !strings.Contains(message, tc.says) {
				t.Errorf("the restore is %s, %s: %s", nr.Status.State, nr.Status.Reason, message)
			}
			if restores.Started(nr) || restores.HasFinalizer(nr) {
				t.Errorf("the restore has started: %+v", nr)
			}
			if w.deleteIt(t); w.pass(t, "first") != nil {
				t.Error("a restore that waits cannot be deleted")
			}
		})
	}
	t.Run("what does not matter", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"),
			rotation(func(*v1alpha1.KeyRotation) {}), backup(func(*v1alpha1.NotesBackup) {}), restore("younger", func(nr *v1alpha1.NotesRestore) { nr.CreationTimestamp = metav1.NewTime(now()) }),
			restore("a-other", func(nr *v1alpha1.NotesRestore) { nr.Spec.SecureNotesRef.Name, nr.Status.StartTime = "other", &old }),
			restore("a-ended", func(nr *v1alpha1.NotesRestore) {
				nr.Annotations = map[string]string{v1alpha1.AnnotationEnded: "a-ended"}
			}),
			backup(func(nb *v1alpha1.NotesBackup) {
				// kubectl delete --cascade=foreground, while its pod is on a node that is lost
				nb.Name, nb.Status.StartTime, nb.Status.JobUID, nb.Finalizers = "deleted", &old, "job", []string{"foregroundDeletion"}
				nb.DeletionTimestamp = new(metav1.NewTime(now()))
			}))
		if w.drive(t); !restores.Complete(w.restore(t, "first")) {
			t.Errorf("the restore is %+v", w.restore(t, "first").Status)
		}
	})
}

// deleteIt deletes the restore, as a user does.
func (w *world) deleteIt(t *testing.T) {
	t.Helper()
	if err := w.Delete(t.Context(), w.restore(t, "first")); err != nil {
		t.Fatal(err)
	}
}

// TestRaces: something else starts after the restore has looked, and before it has recorded its
// start. What has not changed anything yields, and to what has the restore yields.
func TestRaces(t *testing.T) {
	t.Parallel()
	started := new(metav1.NewTime(now()))
	kr := &v1alpha1.KeyRotation{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "kr", UID: "kr"}, Spec: v1alpha1.KeyRotationSpec{
		SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"},
	}, Status: v1alpha1.KeyRotationStatus{StartTime: started}}
	certain := kr.DeepCopy()
	certain.Status.Shards, certain.Status.FromVersion = 1, new(int64(1))
	nb := &v1alpha1.NotesBackup{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "nb", UID: "nb"}, Spec: v1alpha1.NotesBackupSpec{
		SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"},
	}, Status: v1alpha1.NotesBackupStatus{StartTime: started}}
	running := nb.DeepCopy()
	running.Status.JobUID = "job"
	older := restore("a-first", func(nr *v1alpha1.NotesRestore) { nr.Status.StartTime = started })
	younger := restore("younger", func(nr *v1alpha1.NotesRestore) { nr.Status.StartTime = started })
	heldByYounger := younger.DeepCopy()
	heldByYounger.Status.SecureNotesUID = ownID
	for name, tc := range map[string]struct {
		other  client.Object
		yields bool
	}{
		"a rotation that has changed nothing": {kr, false}, "a rotation": {certain, true},
		"a backup without a Job": {nb, false}, "a backup": {running, true},
		"a younger restore": {younger, false}, "an older restore": {older, true}, "a younger restore that is certain": {heldByYounger, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, notes(), restore("first", func(nr *v1alpha1.NotesRestore) {
				controllerutil.AddFinalizer(nr, v1alpha1.Finalizer)
				nr.Status.StartTime = started
			}), tc.other.DeepCopyObject().(client.Object))
			nr := w.pass(t, "first")
			if restores.Certain(nr) || restores.Started(nr) == tc.yields {
				t.Fatalf("the restore goes on as %+v", nr.Status)
			}
			if err := w.Delete(t.Context(), tc.other); err != nil {
				t.Fatal(err)
			}
			if w.drive(t); !restores.Complete(w.restore(t, "first")) {
				t.Errorf("the restore ends with %+v", w.restore(t, "first").Status)
			}
		})
	}
}

// TestDeletion deletes a restore after each number of passes. Before the Job is complete, the
// restore stops: the Job and its pods are gone before the object is, and the SecureNotes is as it
// was. After that, the restore finishes first.
func TestDeletion(t *testing.T) {
	t.Parallel()
	stopped, finished := 0, 0
	for passes := range 12 {
		t.Run(fmt.Sprint(passes), func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, notes(), restore("first", fromEscrow))
			for range passes {
				if !w.play(t) {
					return
				}
			}
			w.deleteIt(t)
			for w.play(t) {
			}
			if _, exists := get(t, w, "first", &v1alpha1.NotesRestore{}); exists {
				t.Fatalf("the restore is still there: %+v", w.restore(t, "first").Status)
			}
			_, job := w.job(t, restore("first"))
			switch id := w.parent(t).Status.DeploymentID; {
			case id == otherID && w.vault.deploymentID == otherID:
				finished++
			case id == ownID && w.vault.writes == 0 && !job:
				stopped++
			default:
				t.Errorf("the SecureNotes has the deployment %s, the marker %s, and there is a Job: %t", id, w.vault.deploymentID, job)
			}
			if _, exists := get(t, w, operand.RestoreServiceAccount("notes"), &corev1.ServiceAccount{}); exists {
				t.Error("the service account is left")
			}
		})
	}
	if stopped < 2 || finished < 1 {
		t.Errorf("%d restores have stopped, and %d finished", stopped, finished)
	}
}

// untilRuns plays until the Job runs, and does not end.
func (w *world) untilRuns(t *testing.T) *v1alpha1.NotesRestore {
	t.Helper()
	w.stuck = true
	for range 8 {
		w.play(t)
	}
	nr := w.restore(t, "first")
	if _, exists := w.job(t, nr); !exists || nr.Status.JobUID == "" || nr.Status.State != v1alpha1.ReasonRestoring {
		t.Fatalf("the Job does not run: %+v", nr.Status)
	}
	return nr
}

// TestDeletionAwaitsThePod: the SecureNotes goes on only after the last pod of a deleted Job has
// ended, which may still write.
func TestDeletionAwaitsThePod(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
	w.untilRuns(t)
	w.deleteIt(t)
	for range 4 {
		w.play(t)
	}
	nr := w.restore(t, "first")
	if _, message := condition(nr, v1alpha1.ConditionReconciling); !restores.Certain(nr) || restores.Ended(nr) || !strings.Contains(message, "the restore waits until pod notes-restore-") {
		t.Fatalf("the restore is %+v", nr.Status)
	}
	if _, exists := w.job(t, nr); exists {
		t.Error("the Job is still there")
	}
	w.stuck = false
	if w.drive(t); w.passes >= 40 || w.served {
		t.Errorf("after %d passes; the API ran beside a pod of the Job: %t", w.passes, w.served)
	}
}

// TestSecureNotesGoes: the SecureNotes is deleted, or replaced by another of its name, while the
// Job runs. The restore stops, and touches neither.
func TestSecureNotesGoes(t *testing.T) {
	t.Parallel()
	for _, replaced := range []bool{false, true} {
		t.Run(fmt.Sprintf("replaced %t", replaced), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
			w.untilRuns(t)
			if err := w.Delete(t.Context(), w.parent(t)); err != nil {
				t.Fatal(err)
			}
			if replaced {
				if err := w.Create(t.Context(), notes(func(sn *v1alpha1.SecureNotes) { sn.UID, sn.Status.DeploymentID = otherID, otherID })); err != nil {
					t.Fatal(err)
				}
			}
			w.stuck = false
			w.drive(t)
			nr := w.restore(t, "first")
			if state, message := condition(nr, v1alpha1.ConditionFailed); state != "True/SecureNotesNotFound" || !strings.Contains(message, "no longer exists") || restores.HasFinalizer(nr) {
				t.Errorf("the restore ends with %s: %s", state, message)
			}
			if _, exists := w.job(t, nr); exists || w.vault.writes > 0 {
				t.Errorf("there is a Job: %t, and %d writes to the marker", exists, w.vault.writes)
			}
		})
	}
}

// TestJobIsTampered: a Job whose spec somebody has changed is not believed, and one that somebody
// has deleted is created again.
func TestJobIsTampered(t *testing.T) {
	t.Parallel()
	t.Run("changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
		job, _ := w.job(t, w.untilRuns(t))
		job.Spec.Template.Spec.Containers[0].Image = "another"
		if err := w.Update(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		w.stuck = false
		w.drive(t)
		mustHaveFailed(t, w, "JobFailed")
	})
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
		job, _ := w.job(t, w.untilRuns(t))
		first := job.UID
		if err := w.Delete(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		// Its pod has not ended.
		for range 3 {
			w.play(t)
		}
		if _, exists := w.job(t, w.restore(t, "first")); exists {
			t.Error("another Job was created beside a pod of the first")
		}
		w.stuck = false
		w.drive(t)
		mustBeRestored(t, w, ownID, ownPepper)
		if nr := w.restore(t, "first"); nr.Status.JobUID == string(first) {
			t.Errorf("the Job is still %s", first)
		}
	})
}

// TestVaultIsAway: the database is restored, and Vault cannot be reached. The SecureNotes stands
// still until it can.
func TestVaultIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, notes(), restore("first", fromEscrow))
	w.vault.fault = &vaultadmin.Error{Problem: vaultadmin.Sealed}
	for range 15 {
		w.play(t)
	}
	nr := w.restore(t, "first")
	if nr.Status.State != v1alpha1.ReasonRecording || nr.Status.Reason != v1alpha1.ReasonVaultSealed || w.parent(t).Status.DeploymentID != ownID {
		t.Fatalf("the restore is %+v", nr.Status)
	}
	if _, serves := get(t, w, "notes-0", &corev1.Pod{}); serves {
		t.Error("a pod of the API runs")
	}
	w.vault.fault = nil
	mustBeRestored(t, w.drive(t), otherID, otherPepper)
}

// TestRestoredObject: a tool such as Velero restores the object of a restore that had started or
// ended, at any time, without its status. It does not start again: it would replace what was
// written since. A copy of another name does.
func TestRestoredObject(t *testing.T) {
	t.Parallel()
	original := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
	for again := true; again; {
		again = original.play(t)
		captured := original.restore(t, "first")
		if !restores.Started(captured) {
			t.Fatalf("the restore has not started: %+v", captured.Status)
		}
		w := newWorld(t, &crashtest.Crash{}, notes(), restore("first", func(nr *v1alpha1.NotesRestore) {
			nr.Annotations, nr.Finalizers = captured.Annotations, captured.Finalizers
		})).drive(t)
		nr := w.restore(t, "first")
		if state, message := condition(nr, v1alpha1.ConditionRestored); state != "True/Restored" || !strings.Contains(message, "create another NotesRestore") || nr.Status.State != "Restored" {
			t.Errorf("the restore is %+v", nr.Status)
		}
		if w.served || restores.Started(nr) || restores.HasFinalizer(nr) {
			t.Errorf("it has started, or is held: %+v", nr)
		}
	}
	copied := newWorld(t, &crashtest.Crash{}, notes(), restore("first", func(nr *v1alpha1.NotesRestore) {
		nr.Annotations = map[string]string{v1alpha1.AnnotationEnded: "another", v1alpha1.AnnotationStarted: "another"}
	})).drive(t)
	mustBeRestored(t, copied, ownID, ownPepper)
}

// TestSettled: an ended restore costs no write.
func TestSettled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, notes(), restore("first")).drive(t)
	before := w.crash.Count
	for range 3 {
		w.pass(t, "first")
	}
	if w.crash.Count != before {
		t.Errorf("%d writes", w.crash.Count-before)
	}
}

// TestManyPods: more pods have the labels of the SecureNotes than are read, so that one that runs
// may be among the others. The restore waits.
func TestManyPods(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, notes(), restore("first"))
	more := true
	live := interceptor.NewClient(w.APIServer, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, list, opts...)
			if _, pods := list.(*corev1.PodList); pods && more {
				list.SetContinue("more")
			}
			return err
		},
	})
	pass := func() *v1alpha1.NotesRestore {
		r := w.reconciler()
		r.Live = live
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}}); err != nil {
			t.Fatal(err)
		}
		w.scale(t)
		return w.restore(t, "first")
	}
	nr := pass()
	for range 3 {
		nr = pass()
	}
	if _, message := condition(nr, v1alpha1.ConditionReconciling); nr.Status.State != v1alpha1.ReasonStopping || !strings.Contains(message, "delete those that have ended") {
		t.Errorf("the restore is %s: %s", nr.Status.State, message)
	}
	more = false
	if nr = pass(); nr.Status.State != v1alpha1.ReasonRestoring {
		t.Errorf("the restore is %+v", nr.Status)
	}
}
