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
	// sampleEvery is how often the database is asked. After each answer it is left alone for
	// sampleRest times as long as the answer took, so that counting a million rows takes no larger
	// share of its time than counting a thousand.
	sampleEvery, sampleRest = time.Minute, 50
	// countTimeout bounds one count. For a million owners, at 5 ms for eight of them, a count takes
	// nine hours.
	countTimeout = 12 * time.Hour
	// maxVersions bounds how many versions have a series of their own. The newer ones share one.
	maxVersions = 16
	// newerVersions is the label of the shared series.
	newerVersions = "newer"
)

var (
	staleRows = prometheus.NewDesc("securenotes_stale_rows",
		"Sealed rows (notes and seeds of second factors) that a rotation has yet to move from an older master key version, by that version. Every replica exports the same number: take the maximum, not the sum.",
		[]string{"version"}, nil)
	oldestVersion = prometheus.NewDesc("securenotes_oldest_master_key_version",
		"Oldest master key version that a key in the database is wrapped under. Every replica exports the same number.",
		nil, nil)
)

// Staleness exports what is still under older versions of the master key. It reads the database at
// intervals and not when it is scraped: a client that can scrape must not be able to cause work.
type Staleness struct {
	store StalenessStore
	log   *slog.Logger

	mu sync.Mutex
	// oldest is the oldest version that an owner key or the canary is wrapped under; 0 in an empty
	// database. It is nil if it could not be read: no number is better than an outdated one.
	oldest *int
	// rows counts sealed rows by the version of their key, for the versions below the fence that an
	// owner key had when they were counted: the rotation has yet to move them. It is nil if they
	// could not be counted.
	rows map[int]int64
}

// NewStaleness returns a collector without metrics. Run reads them.
func NewStaleness(db StalenessStore, log *slog.Logger) *Staleness {
	return &Staleness{store: db, log: log}
}

// Run reads the database at intervals until ctx ends.
func (s *Staleness) Run(ctx context.Context) {
	for {
		begun := time.Now()
		rows, err := s.count(ctx)
		s.mu.Lock()
		if s.rows = rows; err != nil {
			s.oldest = nil
		}
		s.mu.Unlock()
		if err != nil && ctx.Err() == nil {
			s.log.Warn("stale rows were not counted: their metrics are omitted until the next count", "error", err.Error())
		}
		if sleep(ctx, max(sampleEvery-time.Since(begun), sampleEvery/2)) != nil {
			return
		}
	}
}

// count counts the stale rows by version. It reads the oldest version again after each page,
// because counting many rows takes long.
func (s *Staleness) count(ctx context.Context) (map[int]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countTimeout)
	defer cancel()
	tables, _, err := s.store.SealedColumns(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.readOldest(ctx); err != nil {
		return nil, err
	}
	fence, err := s.store.Fence(ctx)
	if err != nil {
		return nil, err
	}
	asked := time.Now()
	return stalenessCount{
		store: s.store, tables: tables, owners: store.OwnerRange{From: boundary(0, 1)}, staleness: store.StaleByWrapping, to: fence,
		page: func() int { return busyKeys },
		pause: func() error {
			if err := sleep(ctx, sampleRest*time.Since(asked)); err != nil {
				return err
			}
			asked = time.Now()
			return s.readOldest(ctx)
		},
	}.run(ctx)
}

func (s *Staleness) readOldest(ctx context.Context) error {
	oldest, err := s.store.OldestVersion(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest = &oldest
	return nil
}

// Describe implements prometheus.Collector.
func (s *Staleness) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- staleRows
	descriptions <- oldestVersion
}

// Collect implements prometheus.Collector.
func (s *Staleness) Collect(metrics chan<- prometheus.Metric) {
	s.mu.Lock()
	oldest, rows := s.oldest, s.rows // nothing writes to either any more
	s.mu.Unlock()
	gauge := func(description *prometheus.Desc, value int64, labels ...string) {
		metrics <- prometheus.MustNewConstMetric(description, prometheus.GaugeValue, float64(value), labels...)
	}
	if oldest != nil {
		gauge(oldestVersion, int64(*oldest))
	}
	var newer int64
	for i, version := range slices.Sorted(maps.Keys(rows)) {
		if i < maxVersions {
			gauge(staleRows, rows[version], strconv.Itoa(version))
		} else {
			newer += rows[version]
		}
	}
	if len(rows) > maxVersions {
		gauge(staleRows, newer, newerVersions)
	}
}
