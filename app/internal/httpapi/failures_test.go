package httpapi

import (
	"testing"
	"time"
)

// TestFailuresAreCounted: failures that are not logged are counted in the next line of their kind.
func TestFailuresAreCounted(t *testing.T) {
	now := time.Unix(0, 0)
	f := newFailures(nil)
	f.now = func() time.Time { return now }
	kind, other := failure{"m", "r"}, failure{"m", "other"}
	lines, told := 0, 0
	for minute := range 3 {
		for range 100 {
			if omitted, ok := f.admit(kind); ok {
				lines, told = lines+1, told+1+omitted
			}
		}
		if _, ok := f.admit(other); !ok {
			t.Errorf("minute %d: a failure of another kind has no line", minute)
		}
		now = now.Add(time.Minute)
	}
	if omitted, _ := f.admit(kind); lines != 3*maxFailures || told+omitted != 300 {
		t.Errorf("%d lines count %d failures, want %d and 300", lines, told+omitted, 3*maxFailures)
	}
}
