package store

import (
	"context"
	"errors"
	"time"
)

// untilKnown repeats a write whose outcome is not known because the connection was lost: it may have been
// committed, and the client must not be told otherwise. do is told when it is a repetition, and recognizes
// then what the attempt before has done.
func (s *Store) untilKnown(ctx context.Context, do func(again bool) error) error {
	err := do(false)
	for _, pause := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		if !errors.Is(err, ErrUnavailable) {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		err = do(true)
	}
	return err
}
