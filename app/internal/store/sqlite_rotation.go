package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// RaiseFence implements Rotation. The transaction is the only writer and needs no further lock.
func (s *sqliteStore) RaiseFence(ctx context.Context, to int) error {
	return s.raiseFence(ctx, to, func(queryer) error { return nil })
}

// ReplaceSealed implements Rotation.
func (s *sqliteStore) ReplaceSealed(ctx context.Context, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error) {
	set := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		set[i] = fmt.Sprintf("%s = $%d", column, i+6)
	}
	query := "UPDATE " + t.Name + " SET key_id = $1, " + strings.Join(set, ", ") +
		" WHERE owner = $2 AND id = $3 AND key_id = $4 AND revision = $5"
	var changedRows int64
	err := s.inRotation(ctx, to, func(tx queryer) error {
		changedRows = 0
		for _, row := range batch {
			args := []any{newKey, owner, row.ID, oldKey, row.Revision}
			for _, value := range row.Values {
				args = append(args, value)
			}
			changed, err := s.execIn(ctx, tx, query, args...)
			if err != nil {
				return err
			}
			changedRows += changed
		}
		if changedRows == 0 {
			return nil
		}
		_, err := s.countSealsIn(ctx, tx, owner, newKey, changedRows*int64(len(t.Columns)))
		return err
	})
	return written(changedRows, err)
}

// ReplaceActiveKeys implements Rotation.
func (s *sqliteStore) ReplaceActiveKeys(ctx context.Context, to int, keys []envelope.StoredKey, now time.Time) error {
	return s.inRotation(ctx, to, func(tx queryer) error {
		for _, key := range keys {
			retired, err := s.execIn(ctx, tx, "UPDATE owner_keys SET state = 'retiring' WHERE owner = $1 AND state = 'active' AND born_version < $2", key.Owner, to)
			if err == nil && retired > 0 {
				err = s.insertActiveKey(ctx, tx, key, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// ReplaceWrappings implements Rotation.
func (s *sqliteStore) ReplaceWrappings(ctx context.Context, to int, keys []Rewrapped) (int64, error) {
	versions, err := newVersions(keys)
	if err != nil {
		return 0, err
	}
	var replaced int64
	err = s.inRotation(ctx, to, func(tx queryer) error {
		replaced = 0
		for i, key := range keys {
			changed, err := s.execIn(ctx, tx, "UPDATE owner_keys SET wrapped = $1, kek_version = $2 WHERE owner = $3 AND id = $4 AND wrapped = $5",
				string(key.New), versions[i], key.Owner, key.ID, string(key.Wrapped))
			if err != nil {
				return err
			}
			replaced += changed
		}
		return nil
	})
	return replaced, err
}

// DeleteReplacedKeys implements Rotation.
func (s *sqliteStore) DeleteReplacedKeys(ctx context.Context, to int, keys []envelope.StoredKey) (bool, error) {
	err := s.inRotation(ctx, to, func(tx queryer) error {
		for _, key := range keys {
			if _, err := s.execIn(ctx, tx, "DELETE FROM owner_keys WHERE owner = $1 AND id = $2 AND state = 'retiring'", key.Owner, key.ID); err != nil {
				return err
			}
		}
		return nil
	})
	return deleted(err)
}
