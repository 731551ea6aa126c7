package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// readyTimeout bounds a readiness check.
const readyTimeout = 3 * time.Second

// Probes answers /livez, /readyz and /metrics. The process is alive while it answers at all; it is
// ready while its check passes.
type Probes struct {
	mu     sync.RWMutex
	reason string
	check  func(context.Context) error
}

// NewProbes begins as not ready, for the reason given.
func NewProbes(reason string) *Probes { return &Probes{reason: reason} }

// NotReady says why the process is not ready.
func (p *Probes) NotReady(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reason, p.check = reason, nil
}

// Ready makes the process as ready as check says.
func (p *Probes) Ready(check func(context.Context) error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reason, p.check = "", check
}

// Handler serves the probes and the registry's metrics.
func (p *Probes) Handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		p.mu.RLock()
		reason, check := p.reason, p.check
		p.mu.RUnlock()
		if check != nil {
			ctx, cancel := context.WithTimeout(r.Context(), readyTimeout)
			defer cancel()
			if err := check(ctx); err != nil {
				reason = err.Error()
			}
		}
		if reason != "" {
			answer(w, http.StatusServiceUnavailable, reason)
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
