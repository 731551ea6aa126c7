package securenotes

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
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
		return errors.Join(err, r.apply(ctx, s, desired, nil))
	}
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
	return errors.Join(err, r.remove(ctx, s, operand.MetricsServiceName(s.sn.Name), existing))
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
		s.addressFinding = bad(v1alpha1.ReasonLoadBalancerPending, fmt.Sprintf("Service %s of type LoadBalancer has no address yet: see its events; "+
			"in a cluster without a load balancer, set spec.service.type to ClusterIP or NodePort", s.sn.Name))
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
