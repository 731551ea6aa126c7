// Package jitter spreads in time what would otherwise happen at once: for many objects, or in many
// processes that began together.
package jitter

import (
	"math/rand/v2"
	"time"
)

// Longer gives d to d and a fifth.
func Longer(d time.Duration) time.Duration { return d + part(d/5) }

func part(d time.Duration) time.Duration {
	return time.Duration(rand.Int64N(int64(d) + 1)) //nolint:gosec // nobody gains by guessing it
}
