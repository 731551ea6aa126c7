package securenotes

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestMetricsServiceInTheWay: an object in the place of the Service of the metrics is told of, once
// by an event, and the service is Ready: the API serves without it.
func TestMetricsServiceInTheWay(t *testing.T) {
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
		s.workloadFinding = s.withMetrics(s.workloadFinding)
		before = computeStatus(s)
		workload := meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionWorkloadReady)
		if workload.Status != metav1.ConditionTrue || !strings.Contains(workload.Message, "Service notes-securenotes-metrics already exists") {
			t.Errorf("condition %+v, want True and a word about the Service", workload)
		}
		if !meta.IsStatusConditionTrue(before.Conditions, v1alpha1.ConditionReady) || meta.FindStatusCondition(before.Conditions, v1alpha1.ConditionStalled) != nil {
			t.Errorf("conditions %+v, want Ready True and no Stalled", before.Conditions)
		}
		if len(s.notes) != warnings || s.requeue == 0 {
			t.Errorf("pass %d: events %+v, again in %s", pass, s.notes, s.requeue)
		}
	}
	failing := healthy(func(s *scope) {
		s.metricsConflict = &apply.ConflictError{Kind: "Service", Name: "x", Owner: "nobody"}
	})
	if f := bad(v1alpha1.ReasonProgressing, "x"); failing.withMetrics(f) != f || len(failing.notes) != 0 {
		t.Error("the metrics' Service is told of while the workload is not well")
	}
}
