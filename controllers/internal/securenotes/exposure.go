package securenotes

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// service applies the Service of the API, and a Service of its own for the metrics if clients
// outside the cluster reach the API.
func (r *Reconciler) service(ctx context.Context, s *scope) error {
	accepted, err := r.apply(ctx, s, operand.Service(s.sn), nil)
	if accepted {
		err = r.address(ctx, s)
	}
	if desired := operand.MetricsService(s.sn); desired != nil {
		return errors.Join(err, r.metricsService(ctx, s, desired))
	}
	existing := &metav1.PartialObjectMetadata{}
	existing.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
	return errors.Join(err, r.remove(ctx, s, operand.MetricsServiceName(s.sn.Name), existing))
}

// metricsService applies the Service of the metrics. The API works without it, so a name conflict
// does not change Ready.
func (r *Reconciler) metricsService(ctx context.Context, s *scope, desired *corev1.Service) error {
	err := r.Apply.Apply(ctx, desired, nil, apply.ControlledBy(s.sn))
	if conflict, ok := errors.AsType[*apply.ConflictError](err); ok {
		s.metricsConflict = conflict
		s.retry("the object that has the name of the metrics Service is not watched")
		return nil
	}
	return s.refused(err)
}

// address checks whether a load balancer has an address. It reads past the cache, which holds only
// the metadata of a Service. A change of the Service's status causes another pass.
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
			"A cluster without a load balancer assigns none, and writes no event: set spec.service.type to ClusterIP or NodePort. "+
			"Otherwise see `kubectl describe service %[1]s`", s.sn.Name))
	}
	return nil
}
