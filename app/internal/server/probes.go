package server

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// lookInterval is the time between two readiness checks.
	lookInterval = time.Second
	// lookTimeout bounds a readiness check.
	lookTimeout = 3 * time.Second
	// lookExpiry is how long the result of a check is served. It leaves room for one slow check.
	lookExpiry = 10 * time.Second
	// scrapeTimeout and maxScrapes bound the work for metrics.
	scrapeTimeout = 5 * time.Second
	maxScrapes    = 4
)

// Probes answers /livez, /readyz and /metrics. The process is alive while it answers at all. It is
// ready while its check passes, which runs in the background: a probe costs nothing but an answer.
type Probes struct {
	mu sync.RWMutex
	// reason is empty when the process is ready.
	reason string
	// looked is when the check that the reason is from began; zero: no check decides.
	looked time.Time
	// generation is of the check that decides.
	generation int
	now        func() time.Time
}

// NewProbes returns probes that are not ready, for the reason given.
func NewProbes(reason string) *Probes { return &Probes{reason: reason, now: time.Now} }

// NotReady sets the reason why the process is not ready. The check of [Probes.Ready] no longer
// counts.
func (p *Probes) NotReady(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.reason, p.looked = reason, time.Time{}
}

// Ready has check decide whether the process is ready. It runs it once, and then at intervals until
// ctx ends.
func (p *Probes) Ready(ctx context.Context, check func(context.Context) error) {
	p.mu.Lock()
	p.generation++
	generation := p.generation
	p.mu.Unlock()
	p.look(ctx, check, generation)
	go func() {
		tick := time.NewTicker(lookInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !p.look(ctx, check, generation) {
					return
				}
			}
		}
	}()
}

// look runs the check and keeps its result, unless something else decides by now.
func (p *Probes) look(ctx context.Context, check func(context.Context) error, generation int) (current bool) {
	begun := p.now()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	reason := ""
	if err := check(ctx); err != nil {
		reason = err.Error()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.generation != generation {
		return false
	}
	p.reason, p.looked = reason, begun
	return true
}

// notReady returns why the process is not ready, or nothing.
func (p *Probes) notReady() string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.reason == "" && p.now().Sub(p.looked) > lookExpiry {
		return "the last readiness check is too old"
	}
	return p.reason
}

// Handler serves the probes and the registry's metrics.
func (p *Probes) Handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reason := p.notReady(); reason != "" {
			answer(w, http.StatusServiceUnavailable, reason)
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
