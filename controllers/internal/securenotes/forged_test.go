package securenotes

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// forged returns pods that anyone may create: with the labels of the API, and never started.
func forged(count int) []corev1.Pod {
	pods := make([]corev1.Pod, count)
	for i := range pods {
		pods[i] = corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "demo", Name: fmt.Sprint("forged-", i), UID: types.UID(fmt.Sprint(i)), Labels: operand.Labels(object(), operand.ComponentAPI),
				CreationTimestamp: metav1.NewTime(now.Add(-time.Hour)),
			},
			Status: corev1.PodStatus{Phase: corev1.PodPending},
		}
	}
	return pods
}

// TestForgedPodsCostLittle: many pods with the labels of the API, and many passes because of them,
// cause few lists of events in 15 s.
func TestForgedPodsCostLittle(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for _, pod := range forged(150) {
		objects = append(objects, &pod)
	}
	r := reconciler(t, &fakeVault{}, objects...)
	lists := 0
	r.Live = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		List: func(_ context.Context, _ client.WithWatch, list client.ObjectList, _ ...client.ListOption) error {
			if _, ok := list.(*corev1.EventList); ok {
				lists++
			}
			return nil
		},
	})
	for range 10 {
		s := healthy(func(s *scope) { s.deployment = &appsv1.Deployment{} })
		if err := r.pods(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	if lists == 0 || lists > 3 {
		t.Errorf("%d lists of events in 10 passes", lists)
	}
}

// TestNewestUnreadyPodsAreAsked: if many pods are not ready, the causes of the newest ones are
// read.
func TestNewestUnreadyPodsAreAsked(t *testing.T) {
	t.Parallel()
	pods, asked := forged(150), map[types.UID]bool{}
	pods[149].CreationTimestamp = metav1.NewTime(now.Add(-time.Minute))
	lookup := cause.Lookup{Now: func() time.Time { return now }, Events: func(about client.Object) []corev1.Event {
		asked[about.GetUID()] = true
		return nil
	}}
	if report := readPods(pods, lookup, now); !report.unready || len(asked) != maxUnready || !asked["149"] {
		t.Errorf("%d pods were asked: %v", len(asked), asked)
	}
}

// TestPodUpdatesWithoutAPass: an update of a pod causes a pass only if it changes something that a
// pass reads.
func TestPodUpdatesWithoutAPass(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"an annotation":         {change: func(p *corev1.Pod) { p.Annotations = map[string]string{"securenotes.dev/x": "1"} }, want: false},
		"an owner":              {change: func(p *corev1.Pod) { p.OwnerReferences = []metav1.OwnerReference{{UID: "x"}} }, want: false},
		"its phase":             {change: func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }, want: true},
		"a container":           {change: func(p *corev1.Pod) { p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api"}} }, want: true},
		"its address":           {change: func(p *corev1.Pod) { p.Status.PodIP = "10.0.0.1" }, want: true},
		"its instance":          {change: func(p *corev1.Pod) { p.Labels[operand.LabelInstance] = "other" }, want: true},
		"its component":         {change: func(p *corev1.Pod) { p.Labels[operand.LabelComponent] = operand.ComponentVerify }, want: false},
		"its deletion":          {change: func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }, want: true},
		"nothing, for a resync": {change: func(p *corev1.Pod) { p.ResourceVersion = "1" }, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			before := forged(1)[0]
			before.ResourceVersion = "1"
			after := before.DeepCopy()
			after.ResourceVersion = "2"
			tc.change(after)
			if got := apiPods().Update(event.UpdateEvent{ObjectOld: &before, ObjectNew: after}); got != tc.want {
				t.Errorf("a pass: %v, want %v", got, tc.want)
			}
		})
	}
	if pod := forged(1)[0]; !apiPods().Create(event.CreateEvent{Object: &pod}) || !apiPods().Delete(event.DeleteEvent{Object: &pod}) {
		t.Error("a created or deleted pod causes no pass")
	}
}

// TestForgedReportsOfPods: the report of a pod counts only while the Deployment has unavailable
// replicas. A forged report of a lost database lets nobody accept its loss.
func TestForgedReportsOfPods(t *testing.T) {
	t.Parallel()
	well := appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
	for name, tc := range map[string]struct {
		status appsv1.DeploymentStatus
		counts bool
	}{
		"every replica is available":  {status: well},
		"an unobserved change":        {status: appsv1.DeploymentStatus{ObservedGeneration: 1, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, counts: true},
		"the new pod cannot start":    {status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 2, UpdatedReplicas: 1, AvailableReplicas: 1, UnavailableReplicas: 1}, counts: true},
		"no new pod yet":              {status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, AvailableReplicas: 1}, counts: true},
		"the only pod is unavailable": {status: appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, UnavailableReplicas: 1}, counts: true},
		"no status of the Deployment": {status: appsv1.DeploymentStatus{}, counts: true},
	} {
		for _, reason := range []string{"DatabaseLost", "DatabaseUnreachable", "KeyMismatch", "MigrationFailed", "VaultDenied"} {
			t.Run(name+"/"+reason, func(t *testing.T) {
				vault := &fakeVault{}
				r := reconciler(t, vault)
				s := healthy(func(s *scope) {
					s.deployed, s.databaseFinding, s.workloadFinding = true, finding{}, finding{}
					s.deployment = &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: tc.status}
					s.database = &vaultadmin.DatabaseState{Claimed: true}
					s.sn.Annotations = map[string]string{v1alpha1.AnnotationAcceptEmptyDatabase: "uid"}
					s.hasKeys = false // the test does not need the configuration
				})
				s.report = new(readPods([]corev1.Pod{pod(time.Hour, answers), pod(time.Minute, serveFails(reason))}, cause.Lookup{}, now))
				database, workload := databaseReady(s), workloadReady(s)
				if got := database.reason == reason || workload.reason == reason; got != tc.counts {
					t.Errorf("counts: %v, want %v: database %+v, workload %+v", got, tc.counts, database, workload)
				}
				if err := r.database(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				if got, want := s.database.Claimed, !tc.counts || reason != "DatabaseLost"; got != want {
					t.Errorf("claimed: %v, want %v", got, want)
				}
			})
		}
	}
}
