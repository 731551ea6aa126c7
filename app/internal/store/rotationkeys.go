package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Staleness selects which version of the master key decides whether an owner key is stale. Its
// value is the column that holds that version.
type Staleness string

const (
	// StaleByWrapping means that the key is wrapped under an older version. Rewrap replaces the
	// wrapping.
	StaleByWrapping Staleness = "kek_version"
	// StaleByCreation means that the key was created under an older version, even if it has been
	// rewrapped since. Reencrypt replaces the key.
	StaleByCreation Staleness = "born_version"
)

// OwnerRange is a range of owner ids as UUID text, from From inclusive to To exclusive. A range
// with an empty To has no end.
type OwnerRange struct{ From, To string }

// condition returns the range in SQL, over the parameters $1 and, if the range has an end, $2. It
// begins after the given owner, if there is one.
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

// RotationKey is an owner key with what a rotation needs to know about it.
type RotationKey struct {
	envelope.StoredKey
	// KEKVersion is the master key version that the key is wrapped under, the column kek_version;
	// see StaleByWrapping. CreatedVersion is the one that it was created under, the column
	// born_version; see StaleByCreation.
	KEKVersion, CreatedVersion int
	Active                     bool
	// Needed reports, for each table that the caller named, whether rows of it are sealed with the
	// key.
	Needed []bool
}

// StaleOwners implements Rotation.
func (c *core) StaleOwners(ctx context.Context, r OwnerRange, by Staleness, to int, after string, limit int) ([]string, error) {
	where, args := r.condition(after)
	n := len(args)
	query := fmt.Sprintf("SELECT DISTINCT owner FROM owner_keys WHERE %s AND %s < $%d ORDER BY owner LIMIT $%d", where, by, n+1, n+2)
	var owners []string
	err := c.rows(ctx, query, append(args, to, limit), func(rows *sql.Rows) error {
		var owner string
		if err := rows.Scan(&owner); err != nil {
			return err
		}
		owners = append(owners, owner)
		return nil
	})
	return owners, err
}

// OwnersKeys implements Rotation.
func (c *core) OwnersKeys(ctx context.Context, owners []string, tables []SealedTable) ([]RotationKey, error) {
	where, parameter := c.dialect.oneOf("k.owner", owners)
	return c.rotationKeys(ctx, tables, where+ownersKeysOrder, parameter)
}

// ownersKeysOrder is the order of OwnersKeys.
const ownersKeysOrder = " ORDER BY owner, id"

// StaleKeys implements Rotation.
func (c *core) StaleKeys(ctx context.Context, r OwnerRange, by Staleness, to int, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	where, args := r.condition("")
	n := len(args)
	where += fmt.Sprintf(" AND %s < $%d", by, n+1)
	args = append(args, to)
	if after.Owner != "" {
		where += fmt.Sprintf(" AND (owner, id) > ($%d, $%d)", n+2, n+3)
		args = append(args, after.Owner, after.ID)
	}
	args = append(args, limit)
	return c.rotationKeys(ctx, nil, where+fmt.Sprintf(" ORDER BY owner, id LIMIT $%d", len(args)), args...)
}

// AllKeys implements Rotation.
func (c *core) AllKeys(ctx context.Context, after envelope.StoredKey, limit int) ([]RotationKey, error) {
	if after.Owner == "" {
		return c.rotationKeys(ctx, nil, "1 = 1 ORDER BY owner, id LIMIT $1", limit)
	}
	return c.rotationKeys(ctx, nil, "(owner, id) > ($1, $2) ORDER BY owner, id LIMIT $3", after.Owner, after.ID, limit)
}

// rotationKeys returns the owner keys that the condition selects.
func (c *core) rotationKeys(ctx context.Context, tables []SealedTable, where string, args ...any) ([]RotationKey, error) {
	var keys []RotationKey
	err := c.rows(ctx, rotationKeysQuery(tables, where), args, func(rows *sql.Rows) error {
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

// rotationKeysQuery selects one row of each table instead of using EXISTS, for which PostgreSQL may
// read the whole table.
func rotationKeysQuery(tables []SealedTable, where string) string {
	var needed strings.Builder
	for _, t := range tables {
		needed.WriteString(", (SELECT 1 FROM " + t.Name + " t WHERE t.owner = k.owner AND t.key_id = k.id LIMIT 1) IS NOT NULL")
	}
	return "SELECT owner, id, wrapped, kek_version, born_version, state" + needed.String() + " FROM owner_keys k WHERE " + where
}

// Rewrapped is an owner key with the wrapping that was read, and a new one.
type Rewrapped struct {
	envelope.StoredKey
	New envelope.Wrapped
}

// keyVersions returns the master key version that each key is wrapped under.
func keyVersions(keys []envelope.StoredKey) ([]int, error) {
	versions := make([]int, len(keys))
	for i, key := range keys {
		var err error
		if versions[i], err = key.Wrapped.Version(); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// newVersions returns the master key version of each new wrapping.
func newVersions(keys []Rewrapped) ([]int, error) {
	versions := make([]int, len(keys))
	for i, key := range keys {
		var err error
		if versions[i], err = key.New.Version(); err != nil {
			return nil, err
		}
	}
	return versions, nil
}

// deleted returns the result of DeleteReplacedKeys from the error of its transaction.
func deleted(err error) (bool, error) {
	if errors.Is(err, errForeignKey) {
		return false, nil
	}
	return err == nil, err
}
