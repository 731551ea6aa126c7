package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// The column types that mark sealed values and wrapped keys; see the migrations.
const (
	sealedType  = "sealed_blob"
	wrappedType = "wrapped_text"
)

// SealedTable is a table with values sealed under owner keys: its rows have owner, id, key_id and
// revision.
type SealedTable struct {
	Name    string
	Columns []string
}

// WrappedColumn is a column with owner keys under the master key.
type WrappedColumn struct{ Table, Column string }

// metaTable holds the canary, which is no owner's.
const metaTable = "meta"

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// SealedColumns finds every sealed and wrapped column by enumerating the schema, so that one that a
// later migration adds cannot be forgotten by a rotation. Error: ErrSchema, when a table has sealed
// values but not the columns that say with which key.
func (s *Store) SealedColumns(ctx context.Context) ([]SealedTable, []WrappedColumn, error) {
	var (
		order   []string
		columns = map[string][]string{}
		sealed  = map[string][]string{}
		wrapped []WrappedColumn
	)
	err := s.rows(ctx, s.db, s.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			return err
		}
		if columns[table] == nil {
			order = append(order, table)
		}
		columns[table] = append(columns[table], column)
		switch kind {
		case sealedType:
			sealed[table] = append(sealed[table], column)
		case wrappedType:
			wrapped = append(wrapped, WrappedColumn{table, column})
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("enumerate sealed columns: %w", err)
	}
	var tables []SealedTable
	for _, name := range order {
		if len(sealed[name]) == 0 || name == metaTable {
			continue
		}
		for _, needed := range []string{"owner", "id", "key_id", "revision"} {
			if !slices.Contains(columns[name], needed) {
				return nil, nil, fmt.Errorf("%w: table %s has sealed values but no column %s", ErrSchema, name, needed)
			}
		}
		for _, column := range append([]string{name}, sealed[name]...) {
			if !plainName.MatchString(column) {
				return nil, nil, fmt.Errorf("%w: %q is not a plain name", ErrSchema, column)
			}
		}
		tables = append(tables, SealedTable{Name: name, Columns: sealed[name]})
	}
	if len(tables) == 0 || len(wrapped) == 0 {
		return nil, nil, fmt.Errorf("%w: no sealed columns found", ErrSchema)
	}
	return tables, wrapped, nil
}

// SealedRow is one row's sealed values, in the order of the table's columns; nil where there is none.
type SealedRow struct {
	ID       string
	Revision int64
	Values   [][]byte
}

// maxBatchBytes bounds what SealedRows and SealedNotes return, but for the first row: a note may have 400 KiB, and
// a batch is in memory several times over while it is sealed again and sent.
const maxBatchBytes = 1 << 20

// errBatchFull ends the reading of a batch.
var errBatchFull = errors.New("the batch is full")

// SealedRows returns up to limit rows, and about maxBatchBytes, that are sealed with the key, in order, after
// the id given. It reports whether there may be more.
func (s *Store) SealedRows(ctx context.Context, t SealedTable, owner, key, after string, limit int) (found []SealedRow, more bool, err error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	size := 0
	err = s.rows(ctx, s.db, sealedRowsQuery(t), []any{owner, key, after, limit}, func(rows *sql.Rows) error {
		row := SealedRow{Values: make([][]byte, len(t.Columns))}
		into := []any{&row.ID, &row.Revision}
		for i := range row.Values {
			into = append(into, &row.Values[i])
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		found = append(found, row)
		for _, value := range row.Values {
			size += len(value)
		}
		if size >= maxBatchBytes {
			return errBatchFull
		}
		return nil
	})
	if errors.Is(err, errBatchFull) {
		return found, true, nil
	}
	return found, len(found) == limit, err
}

// sealedRowsQuery walks an index, so that a batch costs the same however many rows are left.
func sealedRowsQuery(t SealedTable) string {
	return "SELECT id, revision, " + strings.Join(t.Columns, ", ") + " FROM " + t.Name +
		" WHERE owner = $1 AND key_id = $2 AND id > $3 ORDER BY id LIMIT $4"
}

// ReplaceSealed writes rows that were sealed again with another key, each only if its key and
// revision are still the ones that were read: a user's write in between wins. It returns how many
// it wrote.
func (s *Store) ReplaceSealed(ctx context.Context, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error) {
	written, err := s.dialect.replaceSealed(ctx, s, to, t, owner, oldKey, newKey, batch)
	if errors.Is(err, errStillNeeded) {
		return 0, nil // the account, and the new key with it, was deleted meanwhile
	}
	return written, err
}

// CountRowsWithoutKey counts the rows of a table whose values are sealed with a key that is not there, of the owners in
// the range; one without a beginning has the rows without an owner, too. A foreign key keeps it at 0, where a table has
// one.
func (s *Store) CountRowsWithoutKey(ctx context.Context, t SealedTable, r OwnerRange) (int64, error) {
	where, args := "(owner < $1 OR owner IS NULL)", []any{r.To}
	if r.From != "" {
		where, args = r.condition("")
	}
	var count int64
	err := s.row(ctx, fmt.Sprintf(`SELECT count(*) FROM %s t WHERE (%s IS NOT NULL) AND %s
		AND NOT EXISTS (SELECT 1 FROM owner_keys k WHERE k.owner = t.owner AND k.id = t.key_id)`,
		t.Name, strings.Join(t.Columns, " IS NOT NULL OR "), where), args, &count)
	return count, err
}

// WrappedValues calls visit with every value of a wrapped column.
func (s *Store) WrappedValues(ctx context.Context, c WrappedColumn, visit func(string) error) error {
	if !plainName.MatchString(c.Table) || !plainName.MatchString(c.Column) {
		return fmt.Errorf("%w: %s.%s is not a plain name", ErrSchema, c.Table, c.Column)
	}
	return s.rows(ctx, s.db, "SELECT "+c.Column+" FROM "+c.Table+" WHERE "+c.Column+" IS NOT NULL", nil, func(rows *sql.Rows) error {
		var value string
		if err := rows.Scan(&value); err != nil {
			return err
		}
		return visit(value)
	})
}

// CountRowsByKey counts the owners' sealed rows of a table, by the id of their key.
func (s *Store) CountRowsByKey(ctx context.Context, t SealedTable, owners []string) (map[string]int64, error) {
	where, parameter := s.dialect.oneOf("owner", owners)
	counts := map[string]int64{}
	err := s.rows(ctx, s.db, "SELECT key_id, count(*) FROM "+t.Name+" WHERE "+where+" AND key_id IS NOT NULL GROUP BY key_id", []any{parameter}, func(rows *sql.Rows) error {
		var id string
		var count int64
		err := rows.Scan(&id, &count)
		counts[id] = count
		return err
	})
	return counts, err
}
