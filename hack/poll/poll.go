// Package poll waits until a condition holds, for tests and for the tools that demonstrate the
// service.
//
// A condition returns nil when it holds, and otherwise an error that says what is still missing.
// The failure contains the last error.
package poll

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// The pause between two checks grows from first to longest: most waits are short, and the checks of
// a long wait must not slow down what it waits for.
const first, longest = 10 * time.Millisecond, 200 * time.Millisecond

// Until checks the condition until it holds or the context ends. It checks at least once.
func Until(ctx context.Context, condition func(context.Context) error) error {
	var last error
	for pause := first; ; pause = min(2*pause, longest) {
		err := condition(ctx)
		if err == nil {
			return nil
		}
		// The error of a check that the context has cut off says less than the previous one.
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return last
		case <-time.After(pause):
		}
	}
}

// Within is [Until] with a limit of time.
func Within(ctx context.Context, limit time.Duration, condition func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := Until(ctx, condition); err != nil {
		return fmt.Errorf("not within %s: %w", limit, err)
	}
	return nil
}

// Eventually fails the test unless the condition holds within the limit. What names the condition.
// It does not end with the test's own context, so that cleanups can use it.
func Eventually(t testing.TB, limit time.Duration, what string, condition func(context.Context) error) {
	t.Helper()
	if err := Within(context.Background(), limit, condition); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
