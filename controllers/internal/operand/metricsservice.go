package operand

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// MetricsServiceName returns the name of the Service for metrics. It is long because users have
// Services of their own with the name NAME-metrics.
func MetricsServiceName(name string) string { return name + "-securenotes-metrics" }

// MetricsService returns a Service of type ClusterIP with the plain-HTTP metrics port, or nil if
// the API's Service has that port. The API's Service has it only if it is not reachable from
// outside. Both have the same labels and port name, so that the same scrape configuration finds
// either.
func MetricsService(sn *v1alpha1.SecureNotes) *corev1.Service {
	if Service(sn).Spec.Type == corev1.ServiceTypeClusterIP {
		return nil
	}
	return &corev1.Service{
		ObjectMeta: meta(sn, MetricsServiceName(sn.Name), ComponentAPI),
		Spec: corev1.ServiceSpec{
			Type:     corev1.ServiceTypeClusterIP,
			Selector: Selector(sn),
			Ports:    []corev1.ServicePort{servicePort(portMetrics, config.PortMetrics)},
		},
	}
}
