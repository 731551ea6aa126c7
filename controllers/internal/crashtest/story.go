package crashtest

import (
	"fmt"
	"testing"
)

// Story is a sequence of passes of an operator, and of the actions of others, in a world W.
type Story[W any] struct {
	// Begin returns the world before the first pass.
	Begin func(t *testing.T, c *Crash) W
	// Fork returns a copy of a world that uses c.
	Fork func(t *testing.T, world W, c *Crash) W
	// Pass runs one pass and reports whether another follows. The operator's memory must not
	// outlive the pass.
	Pass func(t *testing.T, world W) bool
}

// chapter is the world before a pass, and the number of writes until then.
type chapter[W any] struct {
	world  W
	before int
}

// Everywhere runs the story without a crash, and then with a crash before and after each write.
// Each run must pass check. A run with a crash starts at the pass that contains the write, because
// the earlier passes are the same in every run.
func (s Story[W]) Everywhere(t *testing.T, leastWrites int, check func(*testing.T, W)) {
	t.Helper()
	c := &Crash{}
	world := s.Begin(t, c)
	var chapters []chapter[W]
	for more := true; more; {
		chapters = append(chapters, chapter[W]{s.Fork(t, world, &Crash{}), c.Count})
		more = s.Pass(t, world)
	}
	if c.Count < leastWrites {
		t.Fatalf("the story has only %d writes, want at least %d", c.Count, leastWrites)
	}
	t.Run("without a crash", func(t *testing.T) { check(t, s.Fork(t, world, &Crash{Count: c.Count})) })
	for i, from := range chapters {
		end := c.Count
		if i+1 < len(chapters) {
			end = chapters[i+1].before
		}
		for at := from.before + 1; at <= end; at++ {
			for _, after := range []bool{false, true} {
				t.Run(fmt.Sprintf("write %d, succeeds %t", at, after), func(t *testing.T) {
					t.Parallel()
					world := s.Fork(t, from.world, &Crash{At: at, After: after, Count: from.before})
					for s.Pass(t, world) {
					}
					check(t, world)
				})
			}
		}
	}
}
