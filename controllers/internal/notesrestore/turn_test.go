package notesrestore

import (
	"context"
	"iter"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/notesbackup"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// keyVault has the master key for a rotation.
type keyVault struct {
	keyrotation.Vault
	fakeVault
	rotated int64
}

func (v *keyVault) Connection() vaultadmin.Connection { return v.fakeVault.Connection() }

func (v *keyVault) ReadKey(context.Context, string) (vaultadmin.KeyState, error) {
	return vaultadmin.KeyState{Latest: 1 + v.rotated, MinDecryption: 1, MinEncryption: 9}, nil
}

func (v *keyVault) Rotate(context.Context, vaultadmin.Deployment) error { v.rotated++; return nil }

// TestTurn: a restore and a rotation, a backup or another restore start at once, on operators that
// know nothing of each other. Their reads past the cache and their writes are interleaved in every
// order. Never do two of them work at once, and one of them soon does.
func TestTurn(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]client.Object{
		"a rotation": &v1alpha1.KeyRotation{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "other", UID: "other-uid", Finalizers: []string{v1alpha1.Finalizer},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(notes(), v1alpha1.GroupVersion.WithKind("SecureNotes"))},
			},
			Spec: v1alpha1.KeyRotationSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
		},
		"a backup": &v1alpha1.NotesBackup{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "other", UID: "other-uid"},
			Spec:       v1alpha1.NotesBackupSpec{SecureNotesRef: v1alpha1.LocalObjectReference{Name: "notes"}},
		},
		"an older restore":  restore("a-other", guarded),
		"a younger restore": restore("other", guarded),
	} {
		for _, order := range interleavings(5, 6) {
			t.Run(name+", "+order, func(t *testing.T) {
				t.Parallel()
				sn := notes(func(sn *v1alpha1.SecureNotes) { sn.Status.BackupKeys = &v1alpha1.BackupKeysStatus{Key: "k"} })
				w := newWorld(t, &crashtest.Crash{}, sn, restore("first", guarded), other.DeepCopyObject().(client.Object))
				ours, theirs := w.atOnce(t, restore("first")), w.atOnce(t, other)
				defer ours.stop()
				defer theirs.stop()
				for _, who := range order {
					map[rune]*coroutine{'a': ours, 'b': theirs}[who].next()
					w.working(t)
				}
				for range 60 {
					ours.next()
					theirs.next()
					if w.working(t) == 1 {
						return
					}
				}
				t.Errorf("none of them works: %+v", w.restore(t, "first").Status)
			})
		}
	}
}

// guarded makes a restore one that is about to start.
func guarded(nr *v1alpha1.NotesRestore) {
	nr.Finalizers, nr.Annotations = []string{v1alpha1.Finalizer}, map[string]string{v1alpha1.AnnotationStarted: nr.Name}
	nr.Status.State = v1alpha1.ReasonQueued
}

// working returns how many restores, rotations and backups have changed or may change something. It
// must not be more than one.
func (w *world) working(t *testing.T) int {
	t.Helper()
	var names []string
	restoreList, rotationList, backupList := &v1alpha1.NotesRestoreList{}, &v1alpha1.KeyRotationList{}, &v1alpha1.NotesBackupList{}
	for _, list := range []client.ObjectList{restoreList, rotationList, backupList} {
		if err := w.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	for i := range restoreList.Items {
		if nr := &restoreList.Items[i]; restores.Certain(nr) {
			names = append(names, nr.Name)
		}
	}
	for i := range rotationList.Items {
		if kr := &rotationList.Items[i]; rotations.TurnCertain(kr) {
			names = append(names, kr.Name)
		}
	}
	for i := range backupList.Items {
		nb := &backupList.Items[i]
		if _, job := get(t, w, operand.BackupJobName(nb.Name), &batchv1.Job{}); job || backups.Started(nb) && nb.Status.JobUID != "" {
			names = append(names, nb.Name)
		}
	}
	if len(names) > 1 {
		t.Fatalf("%s work at once", names)
	}
	return len(names)
}

// coroutine is an operator that runs one step at a time.
type coroutine struct {
	next func() (struct{}, bool)
	stop func()
}

// atOnce returns an operator that carries out one object. It pauses before each write, before it
// reads the others past the cache, and between its passes.
func (w *world) atOnce(t *testing.T, object client.Object) *coroutine {
	next, stop := iter.Pull(func(yield func(struct{}) bool) {
		ended := false
		pause := func() { ended = ended || !yield(struct{}{}) }
		r := w.operatorOf(object, pause)
		for range 100 {
			_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
			if ended {
				return
			}
			if err != nil {
				t.Errorf("%s: %v", object.GetName(), err)
				return
			}
			pause()
		}
	})
	return &coroutine{next, stop}
}

func (w *world) operatorOf(object client.Object, pause func()) reconcile.Reconciler {
	live := interceptor.NewClient(w.APIServer, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			// Each side reads the others together.
			if _, restores := list.(*v1alpha1.NotesRestoreList); restores {
				pause()
			}
			return c.List(ctx, list, opts...)
		},
	})
	writer := interceptor.NewClient(interceptor.NewClient(w.APIServer, w.crash.Interceptor(now)), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			pause()
			return c.Create(ctx, o, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			pause()
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	env, recorder := operand.Environment{Image: "image", ClusterID: "cluster"}, events.NewFakeRecorder(1000)
	setup := func(vaultadmin.Connection, *v1alpha1.SecureNotes) string { return "operator vault-setup" }
	switch object.(type) {
	case *v1alpha1.KeyRotation:
		vault := &keyVault{}
		return &keyrotation.Reconciler{
			Client: writer, Live: live, Recorder: recorder, Environment: env, SetupCommand: setup, Now: now,
			Vault: func(string) (keyrotation.Vault, bool) { return vault, true },
		}
	case *v1alpha1.NotesBackup:
		return &notesbackup.Reconciler{
			Client: writer, Live: live, Recorder: recorder, Environment: env, SetupCommand: setup, Now: now,
			Connection: func(string) (vaultadmin.Connection, bool) { return w.vault.Connection(), true },
		}
	default:
		return &Reconciler{
			Client: writer, Live: live, Recorder: recorder, Environment: env, SetupCommand: setup, Now: now,
			Vault: func(string) (Vault, bool) { return w.vault, true },
		}
	}
}

// interleavings returns every order of a steps a and b steps b.
func interleavings(a, b int) []string {
	if a == 0 || b == 0 {
		return []string{strings.Repeat("a", a) + strings.Repeat("b", b)}
	}
	var all []string
	for _, rest := range interleavings(a-1, b) {
		all = append(all, "a"+rest)
	}
	for _, rest := range interleavings(a, b-1) {
		all = append(all, "b"+rest)
	}
	return all
}
