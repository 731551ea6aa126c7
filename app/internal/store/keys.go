package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// CountSeals implements envelope.KeyRows.
func (c *core) CountSeals(ctx context.Context, key envelope.StoredKey, n int64) (int64, error) {
	var seals int64
	err := c.retry(ctx, func() (err error) {
		seals, err = c.countSealsIn(ctx, c.db, key.Owner, key.ID, n)
		return err
	})
	if errors.Is(err, errForeignKey) {
		err = envelope.ErrKeyNotActive
	}
	return seals, err
}

// countSealsIn adds n to the count of the key. The count has a table of its own, so that it neither
// locks the key's row nor runs the fence's trigger.
func (c *core) countSealsIn(ctx context.Context, q queryer, owner, key string, n int64) (int64, error) {
	var seals int64
	err := c.rowIn(ctx, q, `INSERT INTO owner_key_seals (owner, key_id, seals) VALUES ($1, $2, $3)
		ON CONFLICT (owner, key_id) DO UPDATE SET seals = owner_key_seals.seals + excluded.seals RETURNING seals`,
		[]any{owner, key, n}, &seals)
	return seals, err
}

// SucceedKey implements envelope.KeyRows: it makes next the active key in place of key. Error:
// accounts.ErrFenced if a rotation has begun since next was wrapped.
func (c *core) SucceedKey(ctx context.Context, key, next envelope.StoredKey, now time.Time) error {
	asExpected, args := c.asExpected(2, "")
	args = append([]any{key.Owner}, args...)
	return c.transact(ctx, func(tx queryer) error {
		// The lock on the user's row serializes this with a rotation.
		var owner string
		err := c.rowIn(ctx, tx, "SELECT id FROM users WHERE id = $1 AND "+asExpected+c.dialect.lockExclusive(), args, &owner)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		replaced, err := c.execIn(ctx, tx, "UPDATE owner_keys SET state = 'retiring' WHERE owner = $1 AND id = $2 AND state = 'active'",
			key.Owner, key.ID)
		if err != nil || replaced == 0 {
			return err
		}
		return c.insertActiveKey(ctx, tx, next, now)
	})
}
