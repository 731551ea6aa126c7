package store

import (
	"context"
	"errors"
	"time"
)

// untilKnown repeats a write whose outcome is unknown because the connection was lost, unless
// committed reports that the write was committed. The server may still be executing the write when
// committed is first called, so a failed repetition calls it again.
func (c *core) untilKnown(ctx context.Context, committed func() (bool, error), write func() error) error {
	err := write()
	for _, pause := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		if known, errCheck := committed(); known || errCheck != nil {
			err = errCheck
			continue
		}
		if err = write(); err == nil || errors.Is(err, ErrUnavailable) {
			continue
		}
		if known, errCheck := committed(); known && errCheck == nil {
			return nil
		}
	}
	return err
}

// transactUntilKnown is transact, with committed as in untilKnown.
func (c *core) transactUntilKnown(ctx context.Context, committed func() (bool, error), do func(queryer) error) error {
	return c.untilKnown(ctx, committed, func() error { return c.transact(ctx, do) })
}

// exists returns a check for untilKnown: it reports whether the query counts at least one row.
func (c *core) exists(ctx context.Context, query string, args ...any) func() (bool, error) {
	return func() (bool, error) {
		var n int
		err := c.row(ctx, query, args, &n)
		return n > 0, err
	}
}
