// Package progress shows the progress of a long operation: as a bar on a terminal, as lines in a
// log, and in a ConfigMap for the operator.
package progress

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"
)

// Snapshot is the progress of an operation.
type Snapshot struct {
	Done, Total int64
	// PerSecond is the speed over the last speedWindow.
	PerSecond float64
	// Conflicts counts rows and keys that were skipped because they had changed since they were
	// read.
	Conflicts int64
}

// maxLeft is the longest time left that is shown. Beyond it, the work has stopped.
const maxLeft = 365 * 24 * time.Hour

// Left returns the time that the rest takes at this speed, in whole seconds, and whether it is
// known.
func (s Snapshot) Left() (time.Duration, bool) {
	switch left := s.Total - s.Done; {
	case left <= 0:
		return 0, true
	case float64(left) > s.PerSecond*maxLeft.Seconds():
		return 0, false
	default:
		return time.Duration(math.Ceil(float64(left)/s.PerSecond)) * time.Second, true
	}
}

// Percent returns Done of Total, 0 to 100. An operation without work is done.
func (s Snapshot) Percent() int {
	if s.Total <= 0 {
		return 100
	}
	return int(min(100, s.Done*100/s.Total))
}

// State is the state of an operation.
type State string

// The states. The last snapshot of an operation has another state than Working.
const (
	Working State = "in progress"
	Done    State = "done"
	Stopped State = "stopped"
)

// Sink receives snapshots.
type Sink interface {
	Show(ctx context.Context, s Snapshot, state State)
}

// Tracker collects reports without blocking, and sends one snapshot per interval to its sink.
type Tracker struct {
	sink     Sink
	interval time.Duration

	mu                     sync.Mutex
	done, total, conflicts int64
}

// NewTracker returns a tracker for a sink.
func NewTracker(sink Sink, interval time.Duration) *Tracker {
	return &Tracker{sink: sink, interval: interval}
}

// Report sets how much is done, and the total.
func (t *Tracker) Report(done, total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.total = done, total
}

// Conflicts sets the number of conflicts so far.
func (t *Tracker) Conflicts(total int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conflicts = total
}

// During runs work. It shows the progress meanwhile and the result at the end.
func (t *Tracker) During(ctx context.Context, work func(context.Context) error) error {
	watch, stop := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(t.interval)
		defer tick.Stop()
		var speed speedometer
		speed.read(time.Now(), 0)
		for {
			select {
			case <-watch.Done():
				return
			case now := <-tick.C:
				s := t.snapshot()
				s.PerSecond = speed.read(now, s.Done)
				t.sink.Show(watch, s, Working)
			}
		}
	})
	start := time.Now()
	err := work(ctx)
	stop()
	shown.Wait()
	s, state := t.snapshot(), Done
	if err != nil {
		state = Stopped
	}
	s.PerSecond = float64(s.Done) / max(time.Since(start).Seconds(), 1e-3)
	if state == Done || s.Total > 0 { // work that did not start has no progress
		t.sink.Show(ctx, s, state)
	}
	return err
}

func (t *Tracker) snapshot() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Snapshot{Done: t.done, Total: t.total, Conflicts: t.conflicts}
}

// speedWindow is the time over which speed is measured. It is long enough that batches, pauses and
// a slow owner do not make the time left jump.
const speedWindow = 30 * time.Second

// speedometer has the readings of the last speedWindow, and one earlier reading.
type speedometer struct{ readings []reading }

type reading struct {
	at   time.Time
	done int64
}

// read adds a reading and returns the speed since the oldest one.
func (s *speedometer) read(now time.Time, done int64) float64 {
	for len(s.readings) > 1 && now.Sub(s.readings[1].at) >= speedWindow {
		s.readings = s.readings[1:]
	}
	s.readings = append(s.readings, reading{now, done})
	oldest := s.readings[0]
	if elapsed := now.Sub(oldest.at).Seconds(); elapsed > 0 {
		return float64(done-oldest.done) / elapsed
	}
	return 0
}

// Log writes a line for each snapshot.
type Log struct {
	Logger *slog.Logger
	// What is counted, such as "notes".
	What string
}

// Show implements Sink.
func (l Log) Show(_ context.Context, s Snapshot, state State) {
	attributes := []any{"percent", s.Percent(), l.What, s.Done, "of", s.Total, "per_second", int64(math.Round(s.PerSecond))}
	if left, known := s.Left(); known && state == Working {
		attributes = append(attributes, "left", left.String())
	}
	l.Logger.Info(string(state), attributes...)
}

// Bar draws a bar on a terminal.
type Bar struct {
	Terminal io.Writer
	What     string
}

// Show implements Sink.
func (b Bar) Show(_ context.Context, s Snapshot, state State) {
	const width = 40
	drawn := make([]byte, width)
	for i := range drawn {
		drawn[i] = '.'
		if i*100 < s.Percent()*width {
			drawn[i] = '#'
		}
	}
	end := ""
	if left, known := s.Left(); known && state == Working {
		end = ", " + left.String() + " left"
	}
	// The previous line may have been longer.
	end += eraseLine
	if state != Working { // an error starts a new line
		end += "\n"
	}
	fmt.Fprintf(b.Terminal, "\r[%s] %3d %%  %d of %d %s, %.0f/s%s", drawn, s.Percent(), s.Done, s.Total, b.What, s.PerSecond, end)
}

// eraseLine erases from the cursor to the end of the line (ECMA-48, EL).
const eraseLine = "\x1b[K"

// All sends snapshots to several sinks.
type All []Sink

// Show implements Sink.
func (a All) Show(ctx context.Context, s Snapshot, state State) {
	for _, sink := range a {
		sink.Show(ctx, s, state)
	}
}
