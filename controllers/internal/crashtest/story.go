package crashtest

import (
	"fmt"
	"testing"
)

// Story is what an operator and everyone around it do, pass by pass, in a world W.
type Story[W any] struct {
	// Begin returns the world before the first pass.
	Begin func(t *testing.T, c *Crash) W
	// Fork returns a copy of a world, in which c counts and strikes.
	Fork func(t *testing.T, world W, c *Crash) W
	// Pass plays one pass and reports whether another follows. What the operator remembers must not
	// outlive it.
	Pass func(t *testing.T, world W) bool
}

// chapter is the world before a pass, and how many writes came before it.
type chapter[W any] struct {
	world  W
	before int
}

// Everywhere plays the story to its end without a crash, and then with one before and one after
// each write. All must pass check. A crash run starts with the pass that contains its write: what
// came before is the same in every run.
func (s Story[W]) Everywhere(t *testing.T, leastWrites int, check func(*testing.T, W)) {
	t.Helper()
	c := &Crash{}
	world := s.Begin(t, c)
	var chapters []chapter[W]
	for goesOn := true; goesOn; {
		chapters = append(chapters, chapter[W]{s.Fork(t, world, &Crash{}), c.Count})
		goesOn = s.Pass(t, world)
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
				t.Run(fmt.Sprintf("write %d, went through %t", at, after), func(t *testing.T) {
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
