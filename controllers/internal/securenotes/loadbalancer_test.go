package securenotes

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestLoadBalancerPending: a cluster without a load balancer writes no event, so the message does
// not point to events first.
func TestLoadBalancerPending(t *testing.T) {
	t.Parallel()
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "demo", Name: "notes"}}
	r := reconciler(t, &fakeVault{}, service)
	s := healthy(func(s *scope) { s.sn.Spec.Service = &v1alpha1.Service{Type: corev1.ServiceTypeLoadBalancer} })
	if err := r.address(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	want := "Service notes of type LoadBalancer has no address yet. A cluster without a load balancer assigns none, and writes no event: " +
		"set spec.service.type to ClusterIP or NodePort. Otherwise see `kubectl describe service notes`"
	if got := s.addressFinding; got.reason != v1alpha1.ReasonLoadBalancerPending || got.message != want {
		t.Errorf("got %+v, want %s with %q", got, v1alpha1.ReasonLoadBalancerPending, want)
	}
}
