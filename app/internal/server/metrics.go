package server

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts connections that were closed, and requests that were refused, because of a bound.
type Metrics struct {
	connections, requests *prometheus.CounterVec
}

// NewMetrics registers the counters.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		connections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "securenotes_connections_closed_total",
			Help: "Connections that were closed because a bound was reached, by listener and reason.",
		}, []string{"listener", "reason"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "securenotes_requests_refused_total",
			Help: "Requests that were answered 503 because too many were in flight, by listener.",
		}, []string{"listener"}),
	}
	for _, c := range []prometheus.Collector{m.connections, m.requests} {
		if err := registry.Register(c); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	for _, listener := range []string{"api", "probes"} {
		for _, reason := range reasons {
			m.connections.WithLabelValues(listener, reason)
		}
		m.requests.WithLabelValues(listener)
	}
	return m, nil
}

// listenerMetrics counts for one listener.
type listenerMetrics struct {
	closed  func(reason string)
	refused func()
}

func (m *Metrics) of(listener string) listenerMetrics {
	if m == nil {
		return listenerMetrics{closed: func(string) {}, refused: func() {}}
	}
	return listenerMetrics{
		closed:  func(reason string) { m.connections.WithLabelValues(listener, reason).Inc() },
		refused: m.requests.WithLabelValues(listener).Inc,
	}
}
