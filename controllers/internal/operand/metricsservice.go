package operand

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// MetricsServiceName is of the Service of the metrics where the API's Service leaves the cluster.
// People have Services of their own that are called NAME-metrics.
func MetricsServiceName(name string) string { return name + "-securenotes-metrics" }

// MetricsService returns a Service inside the cluster with the plain-HTTP metrics port, which the
// API's Service has only when it is inside the cluster itself. Both have the same labels and name
// the port alike, so that what scrapes one finds the other. Nil where it is not needed.
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
