package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

var (
	// ErrSuperseded means that the fence stands higher than the rotation that asks: a newer one has begun, and
	// this one must stop.
	ErrSuperseded = errors.New("a newer key rotation has begun")
	// ErrFenceTooLow means that the fence stands lower than the rotation that asks, which never raised it.
	ErrFenceTooLow = errors.New("the rotation fence has not been raised")

	// errStillNeeded: rows are still sealed with the owner key, or it is not there any more.
	errStillNeeded = errors.New("foreign key")
)

// Fence is the least master key version that an owner key may be written under.
func (s *Store) Fence(ctx context.Context) (int, error) {
	var least int
	err := s.row(ctx, "SELECT min_kek_version FROM fence WHERE id = 1", nil, &least)
	return least, err
}

// RaiseFence raises the fence to a version; it never lowers it. Error: ErrSuperseded when it
// stands higher.
func (s *Store) RaiseFence(ctx context.Context, to int) error {
	least, err := s.Fence(ctx)
	if err != nil {
		return err
	}
	if least >= to {
		return standsAt(least, to)
	}
	return s.transact(ctx, func(tx queryer) error {
		// Waits, within lock_timeout, for the transactions that read the fence, then tries again.
		if err := s.dialect.queueForFence(ctx, s, tx); err != nil {
			return err
		}
		_, err := s.execIn(ctx, tx, "UPDATE fence SET min_kek_version = $1 WHERE id = 1 AND min_kek_version < $1", to)
		if err != nil {
			return err
		}
		return s.checkFence(ctx, tx, to)
	})
}

// inRotation runs do in a transaction that holds the fence at exactly to: an old Job that wakes up
// after a newer rotation began can commit nothing.
func (s *Store) inRotation(ctx context.Context, to int, do func(queryer) error) error {
	return s.transact(ctx, func(tx queryer) error {
		if err := s.checkFence(ctx, tx, to); err != nil {
			return err
		}
		return do(tx)
	})
}

func (s *Store) checkFence(ctx context.Context, tx queryer, to int) error {
	var least int
	if err := s.rowIn(ctx, tx, "SELECT min_kek_version FROM fence WHERE id = 1"+s.dialect.lockShared(), nil, &least); err != nil {
		return err
	}
	return standsAt(least, to)
}

// standsAt compares the fence with a rotation.
func standsAt(least, to int) error {
	switch {
	case least > to:
		return fmt.Errorf("%w: the fence stands at version %d, this rotation is to %d", ErrSuperseded, least, to)
	case least < to:
		return fmt.Errorf("%w: it stands at version %d, this rotation is to %d", ErrFenceTooLow, least, to)
	}
	return nil
}

// EndSessions ends every session that began at the given time or before, and returns how many.
func (s *Store) EndSessions(ctx context.Context, to int, began time.Time) (int64, error) {
	var ended int64
	err := s.inRotation(ctx, to, func(tx queryer) (err error) {
		ended, err = s.execIn(ctx, tx, "DELETE FROM sessions WHERE created_at <= $1", micros(began))
		return err
	})
	return ended, err
}

// Age is what makes an owner key stale.
type Age string

const (
	// ByWrapping calls a key stale when its wrapping is older than the version. For Rewrap.
	ByWrapping Age = "kek_version"
	// ByBirth calls a key stale when its bytes are older than the version. For Reencrypt.
	ByBirth Age = "born_version"
)

// OwnerRange is a range of owner ids, From inclusive and To exclusive, as UUID text; an empty To
// has no end.
type OwnerRange struct{ From, To string }

// condition is the range in SQL over the parameters $1 and, where the range has an end, $2.
func (r OwnerRange) condition(after string) (string, []any) {
	where, args := "owner >= $1", []any{r.From}
	if after != "" {
		where, args = "owner > $1", []any{after}
	}
	if r.To != "" {
		where, args = where+" AND owner < $2", append(args, r.To)
	}
	return where, args
}

// RotationKey is an owner key as a rotation sees it.
type RotationKey struct {
	envelope.StoredKey
	KEKVersion, BornVersion int
	Active                  bool
}

// StaleOwners returns up to limit owners of the range, in order, after the one given, with at least
// one stale key.
func (s *Store) StaleOwners(ctx context.Context, r OwnerRange, age Age, to int, after string, limit int) ([]string, error) {
	where, args := r.condition(after)
	n := len(args)
	query := fmt.Sprintf("SELECT DISTINCT owner FROM owner_keys WHERE %s AND %s < $%d ORDER BY owner LIMIT $%d", where, age, n+1, n+2)
	var owners []string
	err := s.rows(ctx, s.db, query, append(args, to, limit), func(rows *sql.Rows) error {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			return err
		}
		owners = append(owners, owner)
		return nil
	})
	return owners, err
}

// OwnerKeys returns all of the owner's keys.
func (s *Store) OwnerKeys(ctx context.Context, owner string) ([]RotationKey, error) {
	return s.rotationKeys(ctx, "owner = $1 ORDER BY id", owner)
}

// StaleKeys returns up to limit stale keys of the range, in order, after the one given. Whole owners
// are not kept together.
func (s *Store) StaleKeys(ctx context.Context, r OwnerRange, age Age, to int, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	where, args := r.condition("")
	n := len(args)
	where += fmt.Sprintf(" AND %s < $%d", age, n+1)
	args = append(args, to)
	if after.Owner != "" {
		where += fmt.Sprintf(" AND (owner, id) > ($%d, $%d)", n+2, n+3)
		args = append(args, after.Owner, after.ID)
	}
	args = append(args, limit)
	return s.rotationKeys(ctx, where+fmt.Sprintf(" ORDER BY owner, id LIMIT $%d", len(args)), args...)
}

// AllKeys returns up to limit owner keys in order after the one given.
func (s *Store) AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	if after.Owner == "" {
		return s.rotationKeys(ctx, "1 = 1 ORDER BY owner, id LIMIT $1", limit)
	}
	return s.rotationKeys(ctx, "(owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3", after.Owner, after.ID, limit)
}

func (s *Store) rotationKeys(ctx context.Context, where string, args ...any) ([]RotationKey, error) {
	var keys []RotationKey
	err := s.rows(ctx, s.db, "SELECT owner, id, wrapped, kek_version, born_version, state FROM owner_keys WHERE "+where, args,
		func(rows *sql.Rows) error {
			var key RotationKey
			var state string
			if err := rows.Scan(&key.Owner, &key.ID, (*string)(&key.Wrapped), &key.KEKVersion, &key.BornVersion, &state); err != nil {
				return err
			}
			key.Active = state == "active"
			keys = append(keys, key)
			return nil
		})
	return keys, err
}

// ReplaceActiveKey makes key the owner's active one and marks the one before as retiring, in one
// transaction. When another process of the same rotation has done so already, it changes nothing.
func (s *Store) ReplaceActiveKey(ctx context.Context, to int, key envelope.StoredKey, now time.Time) error {
	if replaced, err := s.dialect.replaceActiveKey(ctx, s, to, key, now); err != nil || replaced {
		return err
	}
	return s.inRotation(ctx, to, func(tx queryer) error {
		// The user's row is the lock: there is always one, and note writes do not take it.
		var owner string
		err := s.rowIn(ctx, tx, "SELECT id FROM users WHERE id = $1"+s.dialect.lockExclusive(), []any{key.Owner}, &owner)
		if errors.Is(err, sql.ErrNoRows) {
			return nil // the account was deleted meanwhile
		}
		if err != nil {
			return err
		}
		retired, err := s.execIn(ctx, tx, "UPDATE owner_keys SET state = 'retiring' WHERE owner = $1 AND state = 'active' AND born_version < $2",
			key.Owner, to)
		if err != nil {
			return err
		}
		if retired == 0 {
			var active int
			err := s.rowIn(ctx, tx, "SELECT count(*) FROM owner_keys WHERE owner = $1 AND state = 'active'", []any{key.Owner}, &active)
			if err != nil || active > 0 {
				return err
			}
		}
		return s.insertActiveKey(ctx, tx, key, now)
	})
}

// ReplaceWrapping puts a new wrapping of the same key in the old one's place, if the old one is
// still there. It reports whether it was.
func (s *Store) ReplaceWrapping(ctx context.Context, to int, key RotationKey, wrapped envelope.Wrapped) (bool, error) {
	version, err := wrapped.Version()
	if err != nil {
		return false, err
	}
	return s.dialect.replaceWrapping(ctx, s, to, key, wrapped, version)
}

// DeleteRetiredKey deletes a retiring key that nothing is sealed with any more. It reports false
// when something still is: the database's foreign key decides, not a count taken before.
func (s *Store) DeleteRetiredKey(ctx context.Context, to int, key envelope.StoredKey) (bool, error) {
	err := s.dialect.deleteRetiredKey(ctx, s, to, key)
	if errors.Is(err, errStillNeeded) {
		return false, nil
	}
	return err == nil, err
}
