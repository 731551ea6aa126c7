package store

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outcomePauses are the pauses before the checks of untilKnown.
var outcomePauses = [...]time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second}

// untilKnown runs a write, which must not retry by itself, and retries it like [core.retry]. If its
// outcome is unknown because the connection was lost, it asks committed, and repeats the write if
// that reports false. The server may still be executing the write when committed is first called,
// so an error of the repetition is followed by another check.
func (c *core) untilKnown(ctx context.Context, committed func() (bool, error), write func() error) error {
	err := c.retry(ctx, write)
	if !errors.Is(err, ErrUnavailable) || errors.Is(err, errRetry) {
		return err
	}
	for _, pause := range outcomePauses {
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		known, errCheck := committed()
		switch {
		case errCheck == nil && known:
			return nil
		case errors.Is(errCheck, ErrUnavailable):
			err = errCheck
			continue
		case errCheck != nil:
			return errCheck
		}
		err = write()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrUnavailable), errors.Is(err, errRetry):
			continue
		}
		if known, errCheck := committed(); errCheck == nil && known {
			return nil
		}
		return err
	}
	if errors.Is(err, errRetry) {
		err = fmt.Errorf("%w: the outcome of the write is unknown: %w", ErrUnavailable, err)
	}
	return err
}

// transactUntilKnown is transact, with committed as in untilKnown.
func (c *core) transactUntilKnown(ctx context.Context, committed func() (bool, error), do func(queryer) error) error {
	return c.untilKnown(ctx, committed, func() error { return c.transactOnce(ctx, do) })
}

// exists returns a check for untilKnown: it reports whether the query counts at least one row.
func (c *core) exists(ctx context.Context, query string, args ...any) func() (bool, error) {
	return func() (bool, error) {
		var n int
		err := c.row(ctx, query, args, &n)
		return n > 0, err
	}
}
