package keyrotation

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// listTimeout bounds how long a scrape reads the cache.
const listTimeout = 5 * time.Second

var conflictsTotal = prometheus.NewDesc("securenotes_rotation_conflicts_total",
	"Rows and keys that the newest rotation of the SecureNotes skipped because they had changed since they were read.",
	[]string{"namespace", "name"}, nil)

// collector reads the cache at each scrape. An object that no longer exists has no series, and each
// SecureNotes has one, however many rotations are kept.
type collector struct{ reader client.Reader }

// exported serves the metrics while this process is the leader. Another process would export the
// same series again.
func exported(reader client.Reader, registry prometheus.Registerer) manager.RunnableFunc {
	return func(ctx context.Context) error {
		c := collector{reader}
		if err := registry.Register(c); err != nil {
			return err
		}
		defer registry.Unregister(c)
		<-ctx.Done()
		return nil
	}
}

// Describe implements prometheus.Collector.
func (collector) Describe(descriptions chan<- *prometheus.Desc) { descriptions <- conflictsTotal }

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	list := &v1alpha1.KeyRotationList{}
	if err := c.reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		metrics <- prometheus.NewInvalidMetric(conflictsTotal, err)
		return
	}
	newest := map[client.ObjectKey]*v1alpha1.KeyRotation{}
	for i := range list.Items {
		kr := &list.Items[i]
		key := client.ObjectKey{Namespace: kr.Namespace, Name: kr.Spec.SecureNotesRef.Name}
		if before := newest[key]; rotations.Started(kr) && (before == nil || before.Status.StartTime.Before(kr.Status.StartTime)) {
			newest[key] = kr
		}
	}
	for key, kr := range newest {
		var conflicts int64
		if kr.Status.Progress != nil {
			conflicts = kr.Status.Progress.Conflicts
		}
		metrics <- prometheus.MustNewConstMetric(conflictsTotal, prometheus.CounterValue, float64(conflicts), key.Namespace, key.Name)
	}
}
