package securenotes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestMetricsServiceConflict: another object with the name of the metrics Service is reported in
// the condition, and by one event. The service is Ready, because the API works without it.
func TestMetricsServiceConflict(t *testing.T) {
	t.Parallel()
	taken := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: operand.MetricsServiceName("notes")}}
	r := applyingReconciler(t, &fakeVault{}, taken)
	var before v1alpha1.SecureNotesStatus
	for pass, warnings := range []int{1, 0} {
		s := healthy(func(s *scope) { s.sn.Spec.Service = &v1alpha1.Service{Type: corev1.ServiceTypeNodePort} })
		s.original.Status = before
		if err := r.metricsService(t.Context(), s, operand.MetricsService(s.sn)); err != nil {
			t.Fatal(err)
		}
		after := computeStatus(s)
		r.announce(t.Context(), s, after.Conditions)
		before = after
		workload := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionWorkloadReady)
		if workload.Status != metav1.ConditionTrue || !strings.Contains(workload.Message, "Service notes-securenotes-metrics already exists") {
			t.Errorf("condition %+v, want True and the Service in the message", workload)
		}
		if !meta.IsStatusConditionTrue(before.Conditions, v1alpha1.ConditionReady) || meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionStalled) != nil {
			t.Errorf("conditions %+v, want Ready True and no Stalled", before.Conditions)
		}
		if got := metricsWarnings(r); got != warnings || s.requeue.after == 0 {
			t.Errorf("pass %d: got %d events, want %d; again in %s", pass, got, warnings, s.requeue.after)
		}
	}
	failing := healthy(func(s *scope) {
		s.metricsConflict = &apply.ConflictError{Kind: "Service", Name: "x", Owner: "nobody"}
	})
	failing.workloadFinding = bad(v1alpha1.ReasonProgressing, "x")
	r.announce(t.Context(), failing, computeStatus(failing).Conditions)
	if f := workloadReady(failing); f != failing.workloadFinding || metricsWarnings(r) != 0 {
		t.Errorf("got %+v, want no word about the metrics while the workload is not ready", f)
	}
}

// metricsWarnings drains the events of r, and counts those about the metrics.
func metricsWarnings(r *Reconciler) (count int) {
	emitted := r.Recorder.(*events.FakeRecorder).Events
	for range len(emitted) {
		if strings.HasPrefix(<-emitted, "Warning NameConflict the metrics have no Service") {
			count++
		}
	}
	return count
}
