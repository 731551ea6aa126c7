package securenotes

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// service of the API, and that of its metrics where the API's own leaves the cluster.
func (r *Reconciler) service(ctx context.Context, s *scope) error {
	refusals := s.refusals
	err := r.apply(ctx, s, operand.Service(s.sn), nil)
	if err == nil && s.refusals == refusals {
		err = r.address(ctx, s)
	}
	if desired := operand.MetricsService(s.sn); desired != nil {
		return errors.Join(err, r.metricsService(ctx, s, desired))
	}
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
	return errors.Join(err, r.remove(ctx, s, operand.MetricsServiceName(s.sn.Name), existing))
}

// metricsService writes the Service of the metrics. The API serves without it, so an object of
// another owner in its place does not count against Ready.
func (r *Reconciler) metricsService(ctx context.Context, s *scope, desired *corev1.Service) error {
	err := r.Apply.Apply(ctx, desired, nil, apply.ControlledBy(s.sn))
	if conflict, ok := errors.AsType[*apply.ConflictError](err); ok {
		s.metricsConflict = conflict
		s.wake(jitter.Longer(retryInterval)) // the other object is not watched
		return nil
	}
	return s.refused(err)
}

// address looks whether a load balancer has one. It reads past the cache, which has no more of a
// Service than its metadata; a change of the status brings the object back here.
func (r *Reconciler) address(ctx context.Context, s *scope) error {
	if operand.Service(s.sn).Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	service := &corev1.Service{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), service); err != nil {
		return client.IgnoreNotFound(err)
	}
	if len(service.Status.LoadBalancer.Ingress) == 0 {
		s.addressFinding = bad(v1alpha1.ReasonLoadBalancerPending, fmt.Sprintf("Service %s of type LoadBalancer has no address yet. "+
			"A cluster without a load balancer gives none, and writes no event: set spec.service.type to ClusterIP or NodePort. "+
			"Otherwise see `kubectl describe service %[1]s`", s.sn.Name))
	}
	return nil
}

// withAddress adds to a workload that is well what is wrong with its address.
func (s *scope) withAddress(f finding) finding {
	if f.status == metav1.ConditionTrue && s.addressFinding.known() {
		return s.addressFinding
	}
	return f
}

// withMetrics adds to a workload that is well that its metrics have no Service, with a Warning
// event the first time.
func (s *scope) withMetrics(f finding) finding {
	if f.status != metav1.ConditionTrue || s.metricsConflict == nil {
		return f
	}
	message := "the metrics have no Service: " + s.metricsConflict.Error()
	before := meta.FindStatusCondition(s.original.Status.Conditions, v1alpha1.ConditionWorkloadReady)
	if before == nil || !strings.Contains(before.Message, message) {
		s.warn(v1alpha1.ReasonNameConflict, "Reconcile", message)
	}
	f.message += "; " + message
	return f
}
