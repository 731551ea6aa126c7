package store

import (
	"context"
	"fmt"
	"time"
)

// Fence implements Rotation.
func (c *core) Fence(ctx context.Context) (int, error) {
	return c.fenceIn(ctx, c.db)
}

// fenceIn is Fence in q.
func (c *core) fenceIn(ctx context.Context, q queryer) (int, error) {
	var fence int
	err := c.rowIn(ctx, q, "SELECT min_kek_version FROM fence WHERE id = 1", nil, &fence)
	return fence, err
}

// raiseFence raises the fence in a transaction that begins with lock. The transaction waits, within
// lock_timeout, for those that hold the fence, and is then retried.
func (c *core) raiseFence(ctx context.Context, to int, lock func(queryer) error) error {
	fence, err := c.Fence(ctx)
	if err != nil {
		return err
	}
	if fence >= to {
		return mustBeAt(fence, to)
	}
	return c.transact(ctx, func(tx queryer) error {
		if err := lock(tx); err != nil {
			return err
		}
		_, err := c.execIn(ctx, tx, "UPDATE fence SET min_kek_version = $1 WHERE id = 1 AND min_kek_version < $1", to)
		if err != nil {
			return err
		}
		return c.checkFence(ctx, tx, to)
	})
}

// inRotation runs do in a transaction that holds the fence at exactly to. So a stalled Job that
// resumes after a newer rotation has begun can commit nothing.
func (c *core) inRotation(ctx context.Context, to int, do func(queryer) error) error {
	return c.transact(ctx, func(tx queryer) error {
		if err := c.checkFence(ctx, tx, to); err != nil {
			return err
		}
		return do(tx)
	})
}

// checkFence locks the fence until the transaction ends and returns an error unless it is at to.
func (c *core) checkFence(ctx context.Context, tx queryer, to int) error {
	var fence int
	if err := c.rowIn(ctx, tx, "SELECT min_kek_version FROM fence WHERE id = 1"+c.dialect.lockShared(), nil, &fence); err != nil {
		return err
	}
	return mustBeAt(fence, to)
}

// Flush implements Rotation. A commit whose wait for the disk or a standby server is interrupted is
// visible early. The row lock makes this transaction write to the log, so that its own commit waits
// for everything before it.
func (c *core) Flush(ctx context.Context) error {
	return c.transact(ctx, func(tx queryer) error {
		var fence int
		return c.rowIn(ctx, tx, "SELECT min_kek_version FROM fence WHERE id = 1"+c.dialect.lockShared(), nil, &fence)
	})
}

// mustBeAt returns ErrSuperseded or ErrFenceTooLow unless the fence is at the rotation's
// version.
func mustBeAt(fence, to int) error {
	switch {
	case fence > to:
		return fmt.Errorf("%w: the fence is at version %d, this rotation is to %d", ErrSuperseded, fence, to)
	case fence < to:
		return fmt.Errorf("%w: it is at version %d, this rotation is to %d", ErrFenceTooLow, fence, to)
	}
	return nil
}

// EndSessions implements Rotation.
func (c *core) EndSessions(ctx context.Context, to int, began time.Time) (int64, error) {
	var ended int64
	err := c.inRotation(ctx, to, func(tx queryer) (err error) {
		ended, err = c.execIn(ctx, tx, "DELETE FROM sessions WHERE created_at <= $1", micros(began))
		return err
	})
	return ended, err
}
