// Package progress shows how far a long operation is: a bar on a terminal, lines in a log, and a
// key of a ConfigMap for the operator.
package progress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Snapshot is how far an operation is.
type Snapshot struct {
	Done, Total int64
	// PerSecond is the speed since the snapshot before.
	PerSecond float64
}

// Percent is Done of Total, 0 to 100; an operation without work is done.
func (s Snapshot) Percent() int {
	if s.Total <= 0 {
		return 100
	}
	return int(min(100, s.Done*100/s.Total))
}

// Sink is told about snapshots.
type Sink interface {
	Show(ctx context.Context, s Snapshot, last bool)
}

// Tracker takes reports without blocking and passes on one snapshot per interval.
type Tracker struct {
	sink     Sink
	interval time.Duration

	mu          sync.Mutex
	done, total int64
}

// NewTracker returns a tracker for a sink.
func NewTracker(sink Sink, interval time.Duration) *Tracker {
	return &Tracker{sink: sink, interval: interval}
}

// Report says how much is done of how much.
func (t *Tracker) Report(done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.total = done, total
}

// During runs work, shows its progress meanwhile, and its end when it is over.
func (t *Tracker) During(ctx context.Context, work func(context.Context) error) error {
	watch, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(t.interval)
		defer tick.Stop()
		before, at := int64(0), time.Now()
		for {
			select {
			case <-watch.Done():
				return
			case now := <-tick.C:
				s := t.snapshot()
				s.PerSecond = float64(s.Done-before) / now.Sub(at).Seconds()
				before, at = s.Done, now
				t.sink.Show(watch, s, false)
			}
		}
	})
	start := time.Now()
	err := work(ctx)
	stop()
	shown.Wait()
	if err == nil {
		s := t.snapshot()
		s.PerSecond = float64(s.Done) / max(time.Since(start).Seconds(), 1e-3)
		t.sink.Show(ctx, s, true)
	}
	return err
}

func (t *Tracker) snapshot() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Snapshot{Done: t.done, Total: t.total}
}

// Log writes a line per snapshot.
type Log struct {
	Logger *slog.Logger
	// What is what is counted, such as "notes".
	What string
}

// Show implements Sink.
func (l Log) Show(_ context.Context, s Snapshot, last bool) {
	message := "in progress"
	if last {
		message = "done"
	}
	l.Logger.Info(message, "percent", s.Percent(), l.What, s.Done, "of", s.Total, "per_second", int64(s.PerSecond))
}

// Bar draws a bar on a terminal.
type Bar struct {
	Terminal io.Writer
	What     string
}

// Show implements Sink.
func (b Bar) Show(_ context.Context, s Snapshot, last bool) {
	const width = 40
	drawn := make([]byte, width)
	for i := range drawn {
		drawn[i] = '.'
		if i*100 < s.Percent()*width {
			drawn[i] = '#'
		}
	}
	end := ""
	if last {
		end = "\n"
	}
	fmt.Fprintf(b.Terminal, "\r[%s] %3d %%  %d of %d %s, %.0f/s   %s", drawn, s.Percent(), s.Done, s.Total, b.What, s.PerSecond, end)
}

// All tells several sinks.
type All []Sink

// Show implements Sink.
func (a All) Show(ctx context.Context, s Snapshot, last bool) {
	for _, sink := range a {
		sink.Show(ctx, s, last)
	}
}
