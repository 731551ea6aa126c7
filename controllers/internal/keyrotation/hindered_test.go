package keyrotation

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
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// warnings returns and removes the Warning events of a recorder.
func warnings(recorder *events.FakeRecorder) []string {
	var all []string
	for {
		select {
		case event := <-recorder.Events:
			if strings.HasPrefix(event, corev1.EventTypeWarning) {
				all = append(all, event)
			}
		default:
			return all
		}
	}
}

// passOf runs one pass of an operator.
func passOf(t *testing.T, r *Reconciler, name string) {
	t.Helper()
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: name}}); err != nil {
		t.Fatal(err)
	}
}

// TestQuotaRefusesTheJob: if a quota refuses the Job of a Compromise, its condition says so, with
// one event. The Compromise continues when the quota is raised.
func TestQuotaRefusesTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("a", urgent))
	recorder := events.NewFakeRecorder(100)
	r := w.reconciler(recorder)
	full := true
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, ok := o.(*batchv1.Job); ok && full {
				return apierrors.NewForbidden(batchv1.Resource("jobs"), o.GetName(), errors.New("exceeded quota: small, requested: count/jobs.batch=1"))
			}
			return c.Create(ctx, o, opts...)
		},
	})
	var warned []string
	for range 4 {
		passOf(t, r, "a")
		w.recreateAccounts(t)
		warned = append(warned, warnings(recorder)...)
	}
	kr := w.rotation(t, "a")
	c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	if c == nil || c.Reason != v1alpha1.ReasonQuotaExceeded || !strings.Contains(c.Message, "raise the ResourceQuota") || !strings.Contains(c.Message, "delete it") {
		t.Errorf("it says %+v", c)
	}
	if rotations.Blocked(kr) == nil || kr.Status.State != v1alpha1.ReasonReencrypting {
		t.Errorf("state %s, conditions %+v", kr.Status.State, kr.Status.Conditions)
	}
	if len(warned) != 1 || !strings.Contains(warned[0], v1alpha1.ReasonQuotaExceeded) {
		t.Errorf("events: %q", warned)
	}
	full = false
	passOf(t, r, "a")
	if kr := w.rotation(t, "a"); kr.Status.ReencryptJobUID == "" || rotations.Blocked(kr) != nil {
		t.Errorf("got %+v, want a Job and no hindrance", kr.Status)
	}
}

// keepAlive gives each Job a pod that a sidecar has kept alive for a minute.
func (w *world) keepAlive(t *testing.T) {
	t.Helper()
	for _, job := range w.jobs(t) {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Name: job.Name + "-0-x", Namespace: "ns", Labels: map[string]string{batchv1.JobNameLabel: job.Name},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(&job, batchv1.SchemeGroupVersion.WithKind("Job"))},
		}}
		pod.Status.Phase = corev1.PodRunning
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{
			{Name: operand.JobContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(now().Add(-time.Minute))}}},
			{Name: "istio-proxy", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}
		if err := w.Create(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSidecarKeepsTheJob: a condition says that a sidecar prevents the Job from completing. The
// KeyRotation can be deleted: it is released a minute later, not at once, because a Job may only be
// slow to start.
func TestSidecarKeepsTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("a"))
	recorder := events.NewFakeRecorder(100)
	r := w.reconciler(recorder)
	passOf(t, r, "a")
	w.keepAlive(t)
	passOf(t, r, "a")
	passOf(t, r, "a")
	c := meta.FindStatusCondition(w.rotation(t, "a").Status.Conditions, v1alpha1.ConditionReconciling)
	if c.Reason != v1alpha1.ReasonSidecarRunning || !strings.Contains(c.Message, "istio-proxy") || !strings.Contains(c.Message, "delete the Job") {
		t.Errorf("it says %+v", c)
	}
	if warned := warnings(recorder); len(warned) != 1 {
		t.Errorf("events: %q", warned)
	}
	if err := w.Delete(t.Context(), w.rotation(t, "a")); err != nil {
		t.Fatal(err)
	}
	// The fake client sets the time of its own clock.
	deleted := w.rotation(t, "a").DeletionTimestamp.Time
	r.Now = func() time.Time { return deleted.Add(abandonAfter - time.Second) }
	passOf(t, r, "a")
	if !w.exists(t, "a") {
		t.Fatal("it went at once")
	}
	r.Now = func() time.Time { return deleted.Add(abandonAfter) }
	passOf(t, r, "a")
	if w.exists(t, "a") {
		t.Errorf("it is still there: %+v", w.rotation(t, "a").Status.Conditions)
	}
}

func suspended() *v1alpha1.SecureNotes {
	parent := notes()
	parent.Spec.Suspend = new(true)
	return parent
}

// TestHinderedNext: a rotation that is deleted completes unless its Job is blocked.
func TestHinderedNext(t *testing.T) {
	t.Parallel()
	stuck := trustedjob.Outcome{Phase: trustedjob.Running, Cause: cause.Cause{Reason: v1alpha1.ReasonUnschedulable, Message: "no node"}}
	working := trustedjob.Outcome{Phase: trustedjob.Running}
	of := func(changes ...func(*v1alpha1.KeyRotation)) *v1alpha1.KeyRotation {
		return rotation("a", append([]func(*v1alpha1.KeyRotation){running, from(1), to(2)}, changes...)...)
	}
	for name, tc := range map[string]struct {
		o      observed
		want   string
		reason string
		says   string
	}{
		"stuck":                     {o: observed{rotation: of(), reencrypt: stuck}, want: "Wait", reason: v1alpha1.ReasonUnschedulable, says: "To abandon this rotation, delete it"},
		"stuck at the verification": {o: observed{rotation: of(with(v1alpha1.ConditionReencrypted)), verify: stuck}, want: "Wait", reason: v1alpha1.ReasonUnschedulable, says: "delete it"},
		"stuck, just deleted":       {o: observed{rotation: of(deleting), reencrypt: stuck}, want: "Wait", reason: v1alpha1.ReasonUnschedulable, says: "no node. This KeyRotation is being deleted, and is abandoned within a minute"},
		"stuck, and given up":       {o: observed{rotation: of(deleting), reencrypt: stuck, abandoned: true}, want: "Fail", reason: v1alpha1.ReasonUnschedulable, says: "no node"},
		"at work, and deleted":      {o: observed{rotation: of(deleting), reencrypt: working, abandoned: true}, want: "Wait", reason: v1alpha1.ReasonReencrypting, says: "the re-encryption Job is running. This KeyRotation is being deleted: because it has started, it completes or fails first"},
		"at work":                   {o: observed{rotation: of(), reencrypt: working}, want: "Wait", reason: v1alpha1.ReasonReencrypting, says: "is running"},
		"suspended, and deleted":    {o: observed{rotation: of(deleting), parent: suspended()}, want: "Wait", reason: v1alpha1.ReasonSuspended, says: "it completes or fails first"},
		"done, and deleted":         {o: observed{rotation: of(deleting), reencrypt: trustedjob.Outcome{Phase: trustedjob.Complete, Identity: trustedjob.Identity{}}, abandoned: true}, want: "RecordReencrypted"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.o.parent == nil {
				tc.o.parent = notes()
			}
			got := decide(tc.o)
			reason := got.Reason
			if got.Cause.Known() {
				reason = got.Cause.Reason
			}
			if got.action != tc.want || reason != tc.reason || !strings.Contains(got.Message, tc.says) ||
				tc.o.rotation.DeletionTimestamp == nil && strings.Contains(got.Message, "being deleted") {
				t.Errorf("%s %s: %s", got.action, reason, got.Message)
			}
		})
	}
}

// TestCompromiseWaitsForTheWorkload: a Compromise that waits for pods or accounts repeats why they
// are missing. It is not abandoned before it has replaced everything.
func TestCompromiseWaitsForTheWorkload(t *testing.T) {
	t.Parallel()
	of := func(reason string) *v1alpha1.SecureNotes {
		parent := notes()
		meta.SetStatusCondition(&parent.Status.Conditions, metav1.Condition{
			Type: v1alpha1.ConditionWorkloadReady, Status: metav1.ConditionFalse, Reason: reason, Message: "0 of 2: exceeded quota: raise it",
		})
		return parent
	}
	urgent12 := []func(*v1alpha1.KeyRotation){running, urgent, from(1), to(2), recorded("x", "y"), deleting}
	for name, tc := range map[string]struct {
		parent       *v1alpha1.SecureNotes
		reason, says string
	}{
		"refused":   {parent: of(v1alpha1.ReasonQuotaExceeded), reason: v1alpha1.ReasonQuotaExceeded, says: "to be recreated: 0 of 2: exceeded quota: raise it. This KeyRotation is being deleted: because it has started, it completes or fails first"},
		"under way": {parent: of(v1alpha1.ReasonProgressing), says: "see the condition WorkloadReady of SecureNotes notes, and check whether finalizers keep the old one"},
		"unknown":   {parent: notes(), says: "see the condition WorkloadReady of SecureNotes notes"},
	} {
		t.Run(name, func(t *testing.T) {
			got := decide(observed{rotation: rotation("a", urgent12...), parent: tc.parent, accounts: accounts("new", ""), abandoned: true})
			if got.action != "Wait" || got.Reason != v1alpha1.ReasonRecreatingAccounts || got.Cause.Reason != tc.reason || !strings.Contains(got.Message, tc.says) {
				t.Errorf("got %+v, want it to wait with %s for %s: %q", got, v1alpha1.ReasonRecreatingAccounts, tc.reason, tc.says)
			}
		})
	}
}

// TestJobsFollowALimitRange: a Job requests the minimum CPU of the namespace's LimitRange if that
// is more than its default. The API server would otherwise refuse its pods.
func TestJobsFollowALimitRange(t *testing.T) {
	t.Parallel()
	limits := func(kind corev1.LimitType, cpu string) *corev1.LimitRange {
		return &corev1.LimitRange{
			ObjectMeta: metav1.ObjectMeta{Name: "limits", Namespace: "ns"},
			Spec:       corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{Type: kind, Min: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu)}}}},
		}
	}
	elsewhere := limits(corev1.LimitTypeContainer, "70m")
	elsewhere.Namespace = "other"
	for name, tc := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"none":             {want: "10m"},
		"of containers":    {objects: []client.Object{limits(corev1.LimitTypeContainer, "50m")}, want: "50m"},
		"of pods":          {objects: []client.Object{limits(corev1.LimitTypePod, "60m")}, want: "60m"},
		"of volumes":       {objects: []client.Object{limits(corev1.LimitTypePersistentVolumeClaim, "60m")}, want: "10m"},
		"below what it is": {objects: []client.Object{limits(corev1.LimitTypeContainer, "5m")}, want: "10m"},
		"elsewhere":        {objects: []client.Object{elsewhere}, want: "10m"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, append(tc.objects, rotation("a"))...)
			w.pass(t, "a")
			jobs := w.jobs(t)
			if len(jobs) != 1 {
				t.Fatalf("%d Jobs", len(jobs))
			}
			if got := jobs[0].Spec.Template.Spec.Containers[0].Resources.Requests.Cpu().String(); got != tc.want {
				t.Errorf("the Job asks for %s, want %s", got, tc.want)
			}
		})
	}
}

// TestDeletedWhileHeld: a started rotation that is deleted while its SecureNotes is suspended or
// not ready says what it waits for. It is not abandoned half-way, however long ago it was deleted.
func TestDeletedWhileHeld(t *testing.T) {
	t.Parallel()
	suspended, taken, keyless, amountless := notes(), notes(), notes(), notes()
	suspended.Spec.Suspend = new(true)
	taken.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionVaultReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonKeyTaken, Message: "words"}}
	keyless.Status.DeploymentID = ""
	amountless.Spec.Resources = &v1alpha1.Resources{Limits: map[string]v1alpha1.Quantity{"cpu": "1e1.5"}}
	for name, tc := range map[string]struct {
		parent *v1alpha1.SecureNotes
		reason string
		says   string
	}{
		"suspended":              {parent: suspended, reason: v1alpha1.ReasonSuspended, says: "set its spec.suspend to false to continue"},
		"its key is taken":       {parent: taken, reason: v1alpha1.ReasonKeyTaken, says: "words"},
		"without a master key":   {parent: keyless, reason: v1alpha1.ReasonSecureNotesNotReady, says: "VaultReady"},
		"amounts cannot be read": {parent: amountless, reason: v1alpha1.ReasonInvalidResources, says: "SecureNotes"},
	} {
		t.Run(name, func(t *testing.T) {
			const waits = "because it has started, it completes or fails first"
			got := decide(observed{rotation: rotation("a", running, from(1), to(2), deleting), parent: tc.parent, abandoned: true})
			if got.action != "Wait" || got.Reason != tc.reason || !strings.Contains(got.Message, tc.says) || !strings.Contains(got.Message, waits) {
				t.Errorf("got %+v, want it to wait with %s: %q and %q", got, tc.reason, tc.says, waits)
			}
			if got := decide(observed{rotation: rotation("a", running, from(1), to(2)), parent: tc.parent}); strings.Contains(got.Message, waits) {
				t.Errorf("it is not deleted: %s", got.Message)
			}
			if got := decide(observed{rotation: rotation("a", owned, deleting), parent: tc.parent}); got.action == "Wait" {
				t.Errorf("one that has not started waits: %+v", got)
			}
		})
	}
}
