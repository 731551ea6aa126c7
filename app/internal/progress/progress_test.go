package progress

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type recorder struct {
	shown []Snapshot
	state State
}

func (r *recorder) Show(_ context.Context, s Snapshot, state State) {
	r.shown, r.state = append(r.shown, s), state
}

// TestTracker checks that there is one snapshot per interval, with the speed of the last 30
// seconds, and one at the end.
func TestTracker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sink recorder
		tracker := NewTracker(&sink, 2*time.Second)
		tracker.Conflicts(3)
		err := tracker.During(t.Context(), func(context.Context) error {
			// 10 a second for a minute, then 100 a second; never at the instant of a snapshot.
			time.Sleep(time.Second / 2)
			done := int64(0)
			for second := range 121 {
				if done += 10; second >= 60 {
					done += 90
				}
				tracker.Report(done, 10_000)
				time.Sleep(time.Second)
			}
			return nil
		})
		if err != nil || len(sink.shown) != 61 {
			t.Fatalf("%d snapshots, %v", len(sink.shown), err)
		}
		for at, want := range map[int]float64{0: 10, 14: 10, 28: 10, 50: 100, 59: 100} {
			if got := sink.shown[at].PerSecond; got < want*0.8 || got > want*1.2 {
				t.Errorf("snapshot %d: %.1f a second, want about %.0f", at, got, want)
			}
		}
		// In between, the speed and the time left change gradually.
		if got := sink.shown[37].PerSecond; got <= 20 || got >= 90 {
			t.Errorf("15 s after it became faster: %.1f a second", got)
		}
		if last := sink.shown[60]; last.Conflicts != 3 || last.Total != 10_000 || sink.state != Done {
			t.Errorf("the last snapshot: %+v, %s", last, sink.state)
		}
	})
}

// TestTrackerOfWhatFails checks that failed work shows its progress, if it had started.
func TestTrackerOfWhatFails(t *testing.T) {
	failure := errors.New("failure")
	for total, want := range map[int64]int{0: 0, 10: 1} {
		var sink recorder
		tracker := NewTracker(&sink, time.Hour)
		err := tracker.During(t.Context(), func(context.Context) error {
			tracker.Report(0, total)
			return failure
		})
		if !errors.Is(err, failure) || len(sink.shown) != want || want > 0 && sink.state != Stopped {
			t.Errorf("of %d: %d snapshots, %s, %v", total, len(sink.shown), sink.state, err)
		}
	}
}

func TestLeft(t *testing.T) {
	for name, tc := range map[string]struct {
		snapshot Snapshot
		left     time.Duration
		known    bool
	}{
		"half":       {snapshot: Snapshot{Done: 50, Total: 100, PerSecond: 10}, left: 5 * time.Second, known: true},
		"rounded up": {snapshot: Snapshot{Done: 0, Total: 10, PerSecond: 3}, left: 4 * time.Second, known: true},
		"slow":       {snapshot: Snapshot{Done: 0, Total: 90, PerSecond: 0.25}, left: 6 * time.Minute, known: true},
		"done":       {snapshot: Snapshot{Done: 100, Total: 100}, known: true},
		"stopped":    {snapshot: Snapshot{Done: 50, Total: 100}},
		"for ever":   {snapshot: Snapshot{Done: 0, Total: 1 << 40, PerSecond: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			if left, known := tc.snapshot.Left(); known != tc.known || known && left != tc.left {
				t.Errorf("%s, %t", left, known)
			}
		})
	}
}

// TestWhoIsWatching checks that the bar and the log show the time left.
func TestWhoIsWatching(t *testing.T) {
	for name, tc := range map[string]struct {
		snapshot  Snapshot
		state     State
		bar, line string
	}{
		"at work": {snapshot: Snapshot{Done: 250, Total: 1000, PerSecond: 5}, state: Working,
			bar:  "\r[##########..............................]  25 %  250 of 1000 rows, 5/s, 2m30s left\x1b[K",
			line: `msg="in progress" percent=25 rows=250 of=1000 per_second=5 left=2m30s`},
		"stopped": {snapshot: Snapshot{Done: 250, Total: 1000}, state: Working,
			bar:  "\r[##########..............................]  25 %  250 of 1000 rows, 0/s\x1b[K",
			line: `msg="in progress" percent=25 rows=250 of=1000 per_second=0`},
		"at the end": {snapshot: Snapshot{Done: 1000, Total: 1000, PerSecond: 5}, state: Done,
			bar:  "\r[########################################] 100 %  1000 of 1000 rows, 5/s\x1b[K\n",
			line: `msg=done percent=100 rows=1000 of=1000 per_second=5`},
		"at an error": {snapshot: Snapshot{Done: 250, Total: 1000, PerSecond: 5}, state: Stopped,
			bar:  "\r[##########..............................]  25 %  250 of 1000 rows, 5/s\x1b[K\n",
			line: `msg=stopped percent=25 rows=250 of=1000 per_second=5`},
	} {
		t.Run(name, func(t *testing.T) {
			var terminal, log bytes.Buffer
			line := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
					return slog.Attr{}
				}
				return a
			}}))
			All{Bar{Terminal: &terminal, What: "rows"}, Log{Logger: line, What: "rows"}}.Show(t.Context(), tc.snapshot, tc.state)
			if terminal.String() != tc.bar {
				t.Errorf("the bar:  %q\nwant      %q", terminal.String(), tc.bar)
			}
			if got := strings.TrimSpace(log.String()); got != tc.line {
				t.Errorf("the line: %s\nwant      %s", got, tc.line)
			}
		})
	}
}
