package backup

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Tables and columns that a backup reads, and does not only copy.
const (
	tableNotes        = "notes"
	tableUsers        = "users"
	columnPepper      = "pepper_id"
	columnOwner       = "owner"
	columnID          = "id"
	columnKey         = "key_id"
	columnRevision    = "revision"
	columnWrapped     = "wrapped"
	columnVersion     = "kek_version"
	columnBornVersion = "born_version"
)

// sampledKeys is how many owner keys of a version of the master key show whether Vault still
// decrypts it: a single one may be damaged.
const sampledKeys = 5

// census is what the rows of a backup need of others: key versions and peppers.
type census struct {
	// keys has up to sampledKeys owner keys of each version of the master key.
	keys map[int][]envelope.StoredKey
	// peppers counts the password hashes that name a pepper, by its id.
	peppers map[string]int64
}

func newCensus() *census {
	return &census{keys: map[int][]envelope.StoredKey{}, peppers: map[string]int64{}}
}

// add counts a row.
func (c *census) add(table archive.Table, values []any) error {
	switch table.Name {
	case tableUsers:
		id, err := text(table, values, columnPepper)
		if err != nil {
			return err
		}
		c.peppers[id]++
	case archive.TableOwnerKeys:
		key, err := storedKey(table, values)
		if err != nil {
			return err
		}
		return c.addKey(key)
	}
	return nil
}

// addKey counts a wrapped key.
func (c *census) addKey(key envelope.StoredKey) error {
	version, err := key.Wrapped.Version()
	if err != nil {
		return fmt.Errorf("owner key %s of owner %s: %w", key.ID, key.Owner, err)
	}
	if len(c.keys[version]) < sampledKeys {
		c.keys[version] = append(c.keys[version], key)
	}
	return nil
}

// versions returns the versions of the master key, in ascending order.
func (c *census) versions() []int { return slices.Sorted(maps.Keys(c.keys)) }

// pepperIDs returns the ids of the peppers, in ascending order.
func (c *census) pepperIDs() []string { return slices.Sorted(maps.Keys(c.peppers)) }

// storedKey returns the key in a row of owner_keys.
func storedKey(table archive.Table, values []any) (envelope.StoredKey, error) {
	owner, errOwner := text(table, values, columnOwner)
	id, errID := text(table, values, columnID)
	wrapped, errWrapped := text(table, values, columnWrapped)
	return envelope.StoredKey{Owner: owner, ID: id, Wrapped: envelope.Wrapped(wrapped)}, errors.Join(errOwner, errID, errWrapped)
}

// text returns the text in a column.
func text(table archive.Table, values []any, column string) (string, error) {
	i := columnIndex(table, column)
	if i >= 0 {
		if value, ok := values[i].(string); ok {
			return value, nil
		}
	}
	return "", fmt.Errorf("table %s: a row has no text in column %s", table.Name, column)
}

// columnIndex returns the index of a column, or -1.
func columnIndex(table archive.Table, column string) int {
	return slices.IndexFunc(table.Columns, func(c archive.Column) bool { return c.Name == column })
}
