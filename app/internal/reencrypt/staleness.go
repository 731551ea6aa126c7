package reencrypt

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/securenotes/securenotes/app/internal/store"
)

const (
	// sampleEvery is how often the database is asked, and sampleShare how many times as long as an answer took
	// it is left alone, so that counting a million rows takes no more of its time than counting a thousand.
	sampleEvery, sampleShare = time.Minute, 100
	// sampleTimeout bounds one sample.
	sampleTimeout = 10 * time.Second
	// maxVersions bounds how many versions have a series of their own; the newer ones share one.
	maxVersions = 16
	// newerVersions is the label of those.
	newerVersions = "newer"
)

var (
	staleRows = prometheus.NewDesc("securenotes_stale_rows",
		"Sealed rows (notes, and seeds of second factors) under a master key version that a rotation has yet to move them from, by that version. Every replica shows the same: take the maximum, not the sum.",
		[]string{"version"}, nil)
	oldestVersion = prometheus.NewDesc("securenotes_oldest_master_key_version",
		"Oldest version of the master key that something in the database is under. Every replica shows the same.",
		nil, nil)
)

// Staleness tells Prometheus what is still under older versions of the master key. It reads the database now
// and then, not when it is scraped: whoever can scrape must not be able to make work.
type Staleness struct {
	store *store.Store
	log   *slog.Logger

	mu sync.Mutex
	// sample is what was last read; nil when that failed: no number is better than an old one.
	sample *store.Staleness
}

// NewStaleness shows nothing before Run has read it.
func NewStaleness(db *store.Store, log *slog.Logger) *Staleness {
	return &Staleness{store: db, log: log}
}

// Run reads the database again and again until ctx ends.
func (s *Staleness) Run(ctx context.Context) {
	for {
		begun := time.Now()
		sample, err := s.read(ctx)
		s.mu.Lock()
		s.sample = sample
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("stale rows were not counted: their metrics are left out until the next time", "error", err.Error())
		}
		if sleep(ctx, max(sampleEvery, sampleShare*time.Since(begun))) != nil {
			return
		}
	}
}

func (s *Staleness) read(ctx context.Context) (*store.Staleness, error) {
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	tables, _, err := s.store.SealedColumns(ctx)
	if err != nil {
		return nil, err
	}
	sample, err := s.store.Staleness(ctx, tables)
	if err != nil {
		return nil, err
	}
	return &sample, nil
}

// Describe implements prometheus.Collector.
func (s *Staleness) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- staleRows
	descriptions <- oldestVersion
}

// Collect implements prometheus.Collector.
func (s *Staleness) Collect(metrics chan<- prometheus.Metric) {
	s.mu.Lock()
	sample := s.sample
	s.mu.Unlock()
	if sample == nil {
		return
	}
	gauge := func(description *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, float64(value), labels...)
	}
	gauge(oldestVersion, int64(sample.Oldest))
	var newer int64
	for i, version := range slices.Sorted(maps.Keys(sample.Rows)) {
		if i < maxVersions {
			gauge(staleRows, sample.Rows[version], strconv.Itoa(version))
		} else {
			newer += sample.Rows[version]
		}
	}
	if len(sample.Rows) > maxVersions {
		gauge(staleRows, newer, newerVersions)
	}
}
