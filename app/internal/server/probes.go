package server

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/securenotes/securenotes/app/config"
)

const (
	// checkInterval is the time between two readiness checks.
	checkInterval = time.Second
	// checkTimeout bounds a readiness check.
	checkTimeout = 3 * time.Second
	// checkTTL is how long the result of a check is valid. It is long enough for one slow check.
	checkTTL = 10 * time.Second
	// scrapeTimeout and maxScrapes bound the work for metrics.
	scrapeTimeout = 5 * time.Second
	maxScrapes    = 4
)

// Probes answers /livez, /readyz and /metrics. The process is alive as long as it answers. It is
// ready while its check passes. The check runs in the background, so that probes cost little.
type Probes struct {
	mu sync.RWMutex
	// err is why the process is not ready; nil means that it is ready.
	err error
	// checked is when the check that returned err began.
	checked time.Time
	// generation changes when another check, or none, decides.
	generation int
	now        func() time.Time
}

// NewProbes returns probes that are not ready, for the given reason.
func NewProbes(reason string) *Probes { return &Probes{err: errors.New(reason), now: time.Now} }

// NotReady sets the reason why the process is not ready. It replaces the check of [Probes.Ready].
func (p *Probes) NotReady(reason string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.err = errors.New(reason)
}

// Ready makes check decide whether the process is ready. It calls check once, and then at intervals
// until ctx ends.
func (p *Probes) Ready(ctx context.Context, check func(context.Context) error) {
	p.mu.Lock()
	p.generation++
	generation := p.generation
	p.mu.Unlock()
	p.runCheck(ctx, check, generation)
	go p.repeatCheck(ctx, check, generation)
}

func (p *Probes) repeatCheck(ctx context.Context, check func(context.Context) error, generation int) {
	tick := time.NewTicker(checkInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !p.runCheck(ctx, check, generation) {
				return
			}
		}
	}
}

// runCheck runs the check and stores its result. It reports false if the check no longer decides.
func (p *Probes) runCheck(ctx context.Context, check func(context.Context) error, generation int) (current bool) {
	start := p.now()
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := check(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.generation != generation {
		return false
	}
	p.err, p.checked = err, start
	return true
}

// ready returns why the process is not ready, or nil if it is.
func (p *Probes) ready() error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.err == nil && p.now().Sub(p.checked) > checkTTL {
		return errors.New("the last readiness check is too old")
	}
	return p.err
}

// Handler serves the probes and the registry's metrics.
func (p *Probes) Handler(registry *prometheus.Registry) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+config.PathLive, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET "+config.PathReady, func(w http.ResponseWriter, _ *http.Request) {
		if err := p.ready(); err != nil {
			answer(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		answer(w, http.StatusOK, "ok")
	})
	mux.Handle("GET "+config.PathMetrics, promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	return mux
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(text + "\n"))
}
