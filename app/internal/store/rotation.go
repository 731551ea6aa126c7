package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
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

// Flush returns once all that the caller has seen is on the disk, and on the standby servers that the database waits for.
// A commit that waits for them is seen earlier when its wait is cut off, by a client that goes or a server that starts
// anew. The lock is what has the transaction be written down, and so waited for.
func (s *Store) Flush(ctx context.Context) error {
	return s.transact(ctx, func(tx queryer) error {
		var least int
		return s.rowIn(ctx, tx, "SELECT min_kek_version FROM fence WHERE id = 1"+s.dialect.lockShared(), nil, &least)
	})
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

// Staleness selects which version of the master key decides whether an owner key is stale. Its value
// is the column that holds that version.
type Staleness string

const (
	// StaleByWrapping: the key is wrapped under an older version. Rewrap replaces the wrapping.
	StaleByWrapping Staleness = "kek_version"
	// StaleByCreation: the key was created under an older version, even if it has been rewrapped
	// since. Reencrypt replaces the key.
	StaleByCreation Staleness = "born_version"
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
	// KEKVersion is the master key version that the key is wrapped under, and CreatedVersion the
	// one that it was created under.
	KEKVersion, CreatedVersion int
	Active                     bool
	// Needed says of each table that was asked for whether it has rows that are sealed with the key.
	Needed []bool
}

// StaleOwners returns up to limit owners of the range, in order, after the one given, with at least
// one stale key.
func (s *Store) StaleOwners(ctx context.Context, r OwnerRange, by Staleness, to int, after string, limit int) ([]string, error) {
	where, args := r.condition(after)
	n := len(args)
	query := fmt.Sprintf("SELECT DISTINCT owner FROM owner_keys WHERE %s AND %s < $%d ORDER BY owner LIMIT $%d", where, by, n+1, n+2)
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

// OwnersKeys returns all keys of the owners, in order, and says of each, of each of the tables, whether it has rows
// that are sealed with it.
func (s *Store) OwnersKeys(ctx context.Context, owners []string, tables []SealedTable) ([]RotationKey, error) {
	where, parameter := s.dialect.oneOf("k.owner", owners)
	return s.rotationKeys(ctx, tables, where+ownersKeysOrder, parameter)
}

const ownersKeysOrder = " ORDER BY owner, id"

// StaleKeys returns up to limit stale keys of the range, in order, after the one given. Whole owners
// are not kept together.
func (s *Store) StaleKeys(ctx context.Context, r OwnerRange, by Staleness, to int, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	where, args := r.condition("")
	n := len(args)
	where += fmt.Sprintf(" AND %s < $%d", by, n+1)
	args = append(args, to)
	if after.Owner != "" {
		where += fmt.Sprintf(" AND (owner, id) > ($%d, $%d)", n+2, n+3)
		args = append(args, after.Owner, after.ID)
	}
	args = append(args, limit)
	return s.rotationKeys(ctx, nil, where+fmt.Sprintf(" ORDER BY owner, id LIMIT $%d", len(args)), args...)
}

// AllKeys returns up to limit owner keys in order after the one given.
func (s *Store) AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	if after.Owner == "" {
		return s.rotationKeys(ctx, nil, "1 = 1 ORDER BY owner, id LIMIT $1", limit)
	}
	return s.rotationKeys(ctx, nil, "(owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3", after.Owner, after.ID, limit)
}

func (s *Store) rotationKeys(ctx context.Context, tables []SealedTable, where string, args ...any) ([]RotationKey, error) {
	var keys []RotationKey
	err := s.rows(ctx, s.db, rotationKeysQuery(tables, where), args, func(rows *sql.Rows) error {
		key := RotationKey{Needed: make([]bool, len(tables))}
		var state string
		into := []any{&key.Owner, &key.ID, (*string)(&key.Wrapped), &key.KEKVersion, &key.CreatedVersion, &state}
		for i := range key.Needed {
			into = append(into, &key.Needed[i])
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		key.Active = state == "active"
		keys = append(keys, key)
		return nil
	})
	return keys, err
}

// rotationKeysQuery asks for one row of each table, and not whether one EXISTS: for that PostgreSQL may read the whole
// table.
func rotationKeysQuery(tables []SealedTable, where string) string {
	var needed strings.Builder
	for _, t := range tables {
		needed.WriteString(", (SELECT 1 FROM " + t.Name + " t WHERE t.owner = k.owner AND t.key_id = k.id LIMIT 1) IS NOT NULL")
	}
	return "SELECT owner, id, wrapped, kek_version, born_version, state" + needed.String() + " FROM owner_keys k WHERE " + where
}

// ReplaceActiveKeys makes each key its owner's active one in the place of one that is stale, which is retiring then, in
// one transaction. Owners without a stale active key, such as those of whom another process of the same rotation has
// taken care, and those whose account is gone, are left as they are. Owners are in order, each once.
func (s *Store) ReplaceActiveKeys(ctx context.Context, to int, keys []envelope.StoredKey, now time.Time) error {
	versions := make([]int, len(keys))
	for i, key := range keys {
		var err error
		if versions[i], err = key.Wrapped.Version(); err != nil {
			return err
		}
	}
	return s.dialect.replaceActiveKeys(ctx, s, to, keys, versions, now)
}

// Rewrapped is an owner key with its wrapping as it was read, and a new one.
type Rewrapped struct {
	envelope.StoredKey
	New envelope.Wrapped
}

// ReplaceWrappings puts the new wrappings of keys in the old ones' places, where those still are, in one transaction. It
// returns how many it replaced.
func (s *Store) ReplaceWrappings(ctx context.Context, to int, keys []Rewrapped) (int64, error) {
	versions := make([]int, len(keys))
	for i, key := range keys {
		var err error
		if versions[i], err = key.New.Version(); err != nil {
			return 0, err
		}
	}
	return s.dialect.replaceWrappings(ctx, s, to, keys, versions)
}

// DeleteRetiredKeys deletes retiring keys that nothing is sealed with any more. It deletes none, and reports false,
// when something still is sealed with one of them: the database's foreign key decides, not a count taken before.
func (s *Store) DeleteRetiredKeys(ctx context.Context, to int, keys []envelope.StoredKey) (bool, error) {
	err := s.dialect.deleteRetiredKeys(ctx, s, to, keys)
	if errors.Is(err, errStillNeeded) {
		return false, nil
	}
	return err == nil, err
}
