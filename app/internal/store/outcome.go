package store

import (
	"context"
	"errors"
	"time"
)

// untilKnown repeats a write whose outcome is not known because the connection was lost: it may have been
// committed, and the client must not be told otherwise. done asks whether it was; the server may still be at it
// when it is asked first, so that a repetition that fails asks again.
func (s *Store) untilKnown(ctx context.Context, done func() (bool, error), do func() error) error {
	err := do()
	for _, pause := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		if !errors.Is(err, ErrUnavailable) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		if known, errDone := done(); known || errDone != nil {
			err = errDone
			continue
		}
		if err = do(); err == nil || errors.Is(err, ErrUnavailable) {
			continue
		}
		if known, errDone := done(); known && errDone == nil {
			return nil
		}
	}
	return err
}

// transactUntilKnown is transact for a transaction whose outcome done tells.
func (s *Store) transactUntilKnown(ctx context.Context, done func() (bool, error), do func(queryer) error) error {
	return s.untilKnown(ctx, done, func() error { return s.transact(ctx, do) })
}

// exists is a question for untilKnown: whether a count is above zero.
func (s *Store) exists(ctx context.Context, query string, args ...any) func() (bool, error) {
	return func() (bool, error) {
		var n int
		err := s.row(ctx, query, args, &n)
		return n > 0, err
	}
}
