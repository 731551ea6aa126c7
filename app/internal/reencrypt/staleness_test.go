package reencrypt_test

import (
	"context"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/securenotes/securenotes/app/internal/reencrypt"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// scraped returns the metrics that Prometheus reads, without comments.
func scraped(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	raw, err := io.ReadAll(answer.Result().Body)
	if err != nil || answer.Code != http.StatusOK {
		t.Fatalf("%d, %v: %s", answer.Code, err, raw)
	}
	var lines []string
	for line := range strings.Lines(string(raw)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return strings.Join(lines, "; ")
}

// sampled returns the metrics of the database as it is now. It waits until they are want, but not
// for long.
func (w *world) sampled(t *testing.T, want string) string {
	t.Helper()
	registry := prometheus.NewRegistry()
	staleness := reencrypt.NewStaleness(w.db, slog.New(slog.DiscardHandler))
	if err := registry.Register(staleness); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		staleness.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	for deadline := time.Now().Add(20 * time.Second); ; {
		if got := scraped(t, registry); got == want || time.Now().After(deadline) {
			return got
		}
		time.Sleep(time.Millisecond)
	}
}

// after returns the next id, which ends the range of a single owner.
func after(owner string) string {
	id := uuid.MustParse(owner)
	n := new(big.Int).SetBytes(id[:])
	n.Add(n, big.NewInt(1)).FillBytes(id[:])
	return id.String()
}

// TestStaleRowsAreServed checks that the metrics count what is left, from the first rotation's
// fence to its end.
func TestStaleRowsAreServed(t *testing.T) {
	eachStrategy(t, func(t *testing.T, open storetest.Open, strategy reencrypt.Strategy) {
		w := newWorld(t, open, 3, 4) // five rows each, including the second factor
		expect := func(when, want string) {
			t.Helper()
			if got := w.sampled(t, want); got != want {
				t.Errorf("%s: %s\nwant %s", when, got, want)
			}
		}
		expect("before", "securenotes_oldest_master_key_version 1")
		to := w.rotate(t)
		if err := w.db.RaiseFence(ctx, to); err != nil {
			t.Fatal(err)
		}
		expect("fenced", `securenotes_oldest_master_key_version 1; securenotes_stale_rows{version="1"} 15`)
		one := w.job(strategy, to)
		owner := w.users[0].id.Owner
		one.Range = store.OwnerRange{From: owner, To: after(owner)}
		if err := one.Run(ctx); err != nil {
			t.Fatal(err)
		}
		expect("one user is done", `securenotes_oldest_master_key_version 1; securenotes_stale_rows{version="1"} 10`)
		if err := w.job(strategy, to).Run(ctx); err != nil {
			t.Fatal(err)
		}
		expect("done", "securenotes_oldest_master_key_version 2")
	})
}

// TestNumbersThatAreNotKnown checks that a metric that cannot be read is omitted instead of keeping
// its last value.
func TestNumbersThatAreNotKnown(t *testing.T) {
	w := newWorld(t, storetest.SQLite(t), 1, 1)
	if err := w.db.Close(); err != nil {
		t.Fatal(err)
	}
	logged := make(chan string, 1)
	log := slog.New(slog.NewTextHandler(writer(func(line []byte) {
		select {
		case logged <- string(line):
		default:
		}
	}), nil))
	registry := prometheus.NewRegistry()
	staleness := reencrypt.NewStaleness(w.db, log)
	registry.MustRegister(staleness)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		staleness.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	if line := <-logged; !strings.Contains(line, "stale rows were not counted") {
		t.Errorf("log: %s", line)
	}
	if got := scraped(t, registry); got != "" {
		t.Errorf("served: %s", got)
	}
}

type writer func([]byte)

func (w writer) Write(line []byte) (int, error) {
	w(line)
	return len(line), nil
}
