package notesbackup

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// passOf runs one pass of an operator, and returns when the next one is due.
func passOf(t *testing.T, r *Reconciler) time.Duration {
	t.Helper()
	result, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}})
	if err != nil {
		t.Fatal(err)
	}
	return result.RequeueAfter
}

// waitsFor checks what the backup waits for, and that it is looked at again.
func (w *world) waitsFor(t *testing.T, after time.Duration, reason, says string) {
	t.Helper()
	nb := w.backup(t, "first")
	c := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || c.Reason != reason || !strings.Contains(c.Message, says) || nb.Status.Reason != reason || after <= 0 || after > time.Minute {
		t.Errorf("status %+v and another pass after %s, want %s: %q", nb.Status, after, reason, says)
	}
}

// TestRefusedWrites: if a quota or a policy refuses what the backup needs, its condition says so,
// with one event. It continues once that is corrected.
func TestRefusedWrites(t *testing.T) {
	t.Parallel()
	for name, refuses := range map[string]func(client.Object) bool{
		"the Job":       func(o client.Object) bool { _, ok := o.(*batchv1.Job); return ok },
		"the ConfigMap": func(o client.Object) bool { _, ok := o.(*corev1.ConfigMap); return ok },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
			recorder := events.NewFakeRecorder(100)
			r := w.reconciler(recorder)
			full := true
			r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if refuses(o) && full {
						return apierrors.NewForbidden(batchv1.Resource("jobs"), o.GetName(), errors.New("exceeded quota: small, requested: count/jobs.batch=1"))
					}
					return c.Create(ctx, o, opts...)
				},
			})
			for range 3 {
				w.waitsFor(t, passOf(t, r), v1alpha1.ReasonQuotaExceeded, "raise the ResourceQuota")
			}
			if len(recorder.Events) != 1 {
				t.Errorf("%d events", len(recorder.Events))
			}
			full = false
			passOf(t, r)
			if nb := w.backup(t, "first"); nb.Status.JobUID == "" || nb.Status.State != v1alpha1.ReasonBackingUp || nb.Status.Reason != "" {
				t.Errorf("status %+v", nb.Status)
			}
		})
	}
}

// TestPodsThatDoNotWork: while the Job's pod cannot start or fails, the condition shows the cause.
// The Job's deadline and its retries end it.
func TestPodsThatDoNotWork(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pod          func(*corev1.PodStatus)
		events       []corev1.Event
		reason, says string
	}{
		"the claim does not exist": {pod: func(s *corev1.PodStatus) {
			s.Phase = corev1.PodPending
			s.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: `persistentvolumeclaim "backups" not found`}}
		}, reason: v1alpha1.ReasonUnschedulable, says: `"backups" not found`},
		"the Secret with the authorities does not exist": {pod: func(s *corev1.PodStatus) { s.Phase = corev1.PodPending },
			events: []corev1.Event{{Type: corev1.EventTypeWarning, Reason: "FailedMount", Message: `MountVolume.SetUp failed for volume "backup-ca": secret "s3-ca" not found`}},
			reason: v1alpha1.ReasonPodNotStarted, says: `"s3-ca" not found`},
		"the Secret with the credentials does not exist": {pod: func(s *corev1.PodStatus) {
			s.Phase = corev1.PodFailed
			s.ContainerStatuses = []corev1.ContainerStatus{{Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
				ExitCode: 1, Message: `{"reason":"DestinationDenied","message":"check the Secret with the destination's credentials"}`,
			}}}}
		}, reason: config.ReasonDestinationDenied, says: "check the Secret"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
			r := w.reconciler(events.NewFakeRecorder(100))
			passOf(t, r)
			job := w.jobs(t)[0]
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Name: "first-0-x", Namespace: "ns", UID: "pod", CreationTimestamp: metav1.NewTime(noon), Labels: map[string]string{batchv1.JobNameLabel: "first"},
				OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))},
			}}
			tc.pod(&pod.Status)
			if err := w.Create(t.Context(), pod); err != nil {
				t.Fatal(err)
			}
			later := noon.Add(time.Minute)
			r.Now = func() time.Time { return later }
			r.Live = interceptor.NewClient(w.APIServer, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if found, ok := list.(*corev1.EventList); ok {
					found.Items = tc.events
					for i := range found.Items {
						found.Items[i].LastTimestamp = metav1.NewTime(later)
					}
					return nil
				}
				return c.List(ctx, list, opts...)
			}})
			w.waitsFor(t, passOf(t, r), tc.reason, tc.says)
			w.ends(t, batchv1.JobFailed, "")
			passOf(t, r)
			if nb := w.backup(t, "first"); !backups.Failed(nb) || nb.Status.DurationSeconds != 60 {
				t.Errorf("status %+v", nb.Status)
			}
		})
	}
}

// TestUnknownConnection: an error about the connection to Vault is shown, and passes.
func TestUnknownConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
	r := w.reconciler(events.NewFakeRecorder(100))
	known := r.Connection
	r.Connection = func(string) (vaultadmin.Connection, bool) { return vaultadmin.Connection{}, false }
	w.waitsFor(t, passOf(t, r), string(vaultadmin.ProblemOf(vaultadmin.UnknownConnectionError("default"))), "default")
	r.Connection = known
	passOf(t, r)
	if nb := w.backup(t, "first"); nb.Status.JobUID == "" {
		t.Errorf("status %+v", nb.Status)
	}
}

// TestUnusableBackupKey: a backup waits while the key that signs it is lost.
func TestUnusableBackupKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
	w.change(t, func(sn *v1alpha1.SecureNotes) {
		sn.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionBackupKeyUnusable, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonKeyMissing, Message: "the key is gone"}}
	})
	w.waitsFor(t, passOf(t, w.reconciler(events.NewFakeRecorder(100))), v1alpha1.ReasonKeyMissing, "the key is gone")
}

// TestErrorsAreRetried: an error that nobody can act on is returned to the work queue.
func TestErrorsAreRetried(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
	r := w.reconciler(events.NewFakeRecorder(100))
	broken := errors.New("the API server has stopped")
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error { return broken },
	})
	_, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "first"}})
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// TestEachEventComesOnce: the cache is behind at every second write of the status, so that the step
// is repeated. No event is repeated.
func TestEachEventComesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0))
	recorder := events.NewFakeRecorder(100)
	r := w.reconciler(recorder)
	patches := 0
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if patches++; patches%2 == 1 {
				return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("notesbackups").GroupResource(), o.GetName(), errors.New("it has changed"))
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	for pass := 0; !backups.Complete(w.backup(t, "first")); pass++ {
		if pass == 50 {
			t.Fatalf("it never ends: %+v", w.backup(t, "first").Status)
		}
		passOf(t, r)
		w.completes(t, report())
	}
	if len(recorder.Events) != 1 {
		t.Errorf("%d events", len(recorder.Events))
	}
}

// TestDeletedBackup: a NotesBackup that is being deleted, and that the finalizer of another program
// keeps, does nothing more, and the next one does not wait for it.
func TestDeletedBackup(t *testing.T) {
	t.Parallel()
	held := backup("first", 0)
	held.Finalizers = []string{"example.com/keep"}
	w := newWorld(t, &crashtest.Crash{}, held, backup("second", 1))
	w.remove(t, &v1alpha1.NotesBackup{}, "first")
	if nb := w.pass(t, "first"); nb.Status.StartTime != nil || w.crash.Count != 0 {
		t.Errorf("status %+v after %d writes", nb.Status, w.crash.Count)
	}
	if nb := w.pass(t, "second"); nb.Status.State != v1alpha1.ReasonBackingUp {
		t.Errorf("status %+v", nb.Status)
	}
}

// TestRequests: a change of the SecureNotes, or of one of its backups, wakes those that are open.
func TestRequests(t *testing.T) {
	t.Parallel()
	ended, foreign := backup("ended", 2), backup("foreign", 3)
	ended.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionComplete, Status: metav1.ConditionTrue}}
	foreign.Spec.SecureNotesRef.Name = "other"
	w := newWorld(t, &crashtest.Crash{}, backup("first", 0), backup("second", 1), ended, foreign)
	r := w.reconciler(events.NewFakeRecorder(100))
	if got := r.openBackups(t.Context(), notes()); len(got) != 2 {
		t.Errorf("%v", got)
	}
	if got := r.siblings(t.Context(), w.backup(t, "first")); len(got) != 1 || got[0].Name != "second" {
		t.Errorf("%v", got)
	}
	if got := r.siblings(t.Context(), w.backup(t, "ended")); len(got) != 2 {
		t.Errorf("%v", got)
	}
}
