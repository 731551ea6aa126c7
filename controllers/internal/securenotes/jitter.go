package securenotes

import (
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// jitterFactor spreads the passes over many objects in time.
const jitterFactor = 0.2

// jittered returns a duration between d and d plus a fifth.
func jittered(d time.Duration) time.Duration { return wait.Jitter(d, jitterFactor) }
