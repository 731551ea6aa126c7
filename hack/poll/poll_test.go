package poll_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/securenotes/securenotes/hack/poll"
)

// notYet returns a condition that holds at its n-th check.
func notYet(n int) func(context.Context) error {
	checks := 0
	return func(context.Context) error {
		if checks++; checks < n {
			return fmt.Errorf("check %d of %d", checks, n)
		}
		return nil
	}
}

func TestUntil(t *testing.T) {
	for name, tc := range map[string]struct {
		condition func(context.Context) error
		want      string // part of the error; empty: no error
		wantIn    time.Duration
	}{
		"it holds at once":          {condition: notYet(1)},
		"it holds later":            {condition: notYet(3), wantIn: 30 * time.Millisecond},
		"it never holds":            {condition: func(context.Context) error { return errors.New("no pod is ready") }, want: "no pod is ready", wantIn: time.Minute},
		"the last check is cut off": {condition: cutOff(3), want: "check 2 of 3", wantIn: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := poll.Within(t.Context(), time.Minute, tc.condition)
				if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
					t.Errorf("got %v, want %q", err, tc.want)
				}
				if got := time.Since(begun); got != tc.wantIn {
					t.Errorf("it took %s, want %s", got, tc.wantIn)
				}
			})
		})
	}
}

// cutOff returns a condition whose n-th check lasts until the context ends.
func cutOff(n int) func(context.Context) error {
	before := notYet(n)
	return func(ctx context.Context) error {
		if err := before(ctx); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// TestUntilLooksOften shows that the end of a long wait is noticed within a fifth of a second.
func TestUntilLooksOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		err := poll.Until(t.Context(), func(context.Context) error {
			if time.Since(begun) < time.Minute {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if late := time.Since(begun) - time.Minute; late > 200*time.Millisecond {
			t.Errorf("noticed %s after it held", late)
		}
	})
}

// failing records a Fatalf instead of ending the test.
type failing struct {
	testing.TB
	text string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) { f.text = fmt.Sprintf(format, args...) }

func TestEventuallyNamesWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &failing{TB: t}
		poll.Eventually(f, time.Second, "the pods to be ready", func(context.Context) error { return errors.New("pod a is not") })
		if want := "the pods to be ready: not within 1s: pod a is not"; f.text != want {
			t.Errorf("got %q, want %q", f.text, want)
		}
		f.text = ""
		poll.Eventually(f, time.Second, "the pods to be ready", func(context.Context) error { return nil })
		if f.text != "" {
			t.Errorf("got %q for a condition that holds", f.text)
		}
	})
}
