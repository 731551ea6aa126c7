package securenotes

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// listTimeout bounds the read of the cache for a scrape.
const listTimeout = 5 * time.Second

var (
	retainedKeys = prometheus.NewDesc("securenotes_retained_keys",
		"SecureNotes that found keys of another SecureNotes of their name in Vault (VaultReady=False, KeyRetained). "+
			"It does not count keys of a name that no SecureNotes has: the operator may not list what is in Vault.", nil, nil)
	keysLeftTotal = prometheus.NewDesc("securenotes_keys_left_in_vault_total",
		"SecureNotes deleted with deletionPolicy Retain since this operator became the leader: their keys stay in Vault.", nil, nil)
)

// collector reads the cache at each scrape.
type collector struct{ *Reconciler }

// exportMetrics returns a runnable that serves the metrics while this process is the leader.
func (r *Reconciler) exportMetrics(registry prometheus.Registerer) manager.RunnableFunc {
	return func(ctx context.Context) error {
		c := collector{r}
		if err := registry.Register(c); err != nil {
			return err
		}
		defer registry.Unregister(c)
		<-ctx.Done()
		return nil
	}
}

// Describe implements prometheus.Collector.
func (collector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- retainedKeys
	descriptions <- keysLeftTotal
}

// Collect implements prometheus.Collector.
func (c collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	metrics <- prometheus.MustNewConstMetric(keysLeftTotal, prometheus.CounterValue, float64(c.keysLeft.Load()))
	list := &v1alpha1.SecureNotesList{}
	if err := c.Client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		metrics <- prometheus.NewInvalidMetric(retainedKeys, err)
		return
	}
	count := 0
	for i := range list.Items {
		if ready := meta.FindStatusCondition(list.Items[i].Status.Conditions, v1alpha1.ConditionVaultReady); ready != nil && ready.Reason == v1alpha1.ReasonKeyRetained {
			count++
		}
	}
	metrics <- prometheus.MustNewConstMetric(retainedKeys, prometheus.GaugeValue, float64(count))
}
