package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// CountSeals implements envelope.KeyRows.
func (s *Store) CountSeals(ctx context.Context, key envelope.StoredKey, n int64) (int64, error) {
	var seals int64
	err := s.again(ctx, func() (err error) {
		seals, err = s.countSealsIn(ctx, s.db, key.Owner, key.ID, n)
		return err
	})
	if errors.Is(err, errStillNeeded) {
		err = envelope.ErrKeyNotActive
	}
	return seals, err
}

// countSealsIn keeps the count in a table of its own, so that it takes no lock on the key's row and does
// not pass the fence's trigger.
func (s *Store) countSealsIn(ctx context.Context, q queryer, owner, key string, n int64) (int64, error) {
	var seals int64
	err := s.rowIn(ctx, q, `INSERT INTO owner_key_seals (owner, key_id, seals) VALUES ($1, $2, $3)
		ON CONFLICT (owner, key_id) DO UPDATE SET seals = owner_key_seals.seals + excluded.seals RETURNING seals`,
		[]any{owner, key, n}, &seals)
	return seals, err
}

// SucceedKey implements envelope.KeyRows. Errors: accounts.ErrFenced, when a rotation has begun since next
// was wrapped.
func (s *Store) SucceedKey(ctx context.Context, key, next envelope.StoredKey, now time.Time) error {
	return s.transact(ctx, func(tx queryer) error {
		// The user's row is the lock, as in a rotation.
		var owner string
		err := s.rowIn(ctx, tx, "SELECT id FROM users WHERE id = $1"+s.dialect.lockExclusive(), []any{key.Owner}, &owner)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		retired, err := s.execIn(ctx, tx, "UPDATE owner_keys SET state = 'retiring' WHERE owner = $1 AND id = $2 AND state = 'active'",
			key.Owner, key.ID)
		if err != nil || retired == 0 {
			return err
		}
		return s.insertActiveKey(ctx, tx, next, now)
	})
}
