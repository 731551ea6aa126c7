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

// The column types that mark sealed values and wrapped keys. The migrations declare them.
const (
	sealedType  = "sealed_blob"
	wrappedType = "wrapped_text"
)

// SealedTable is a table with values that are sealed under owner keys. Its rows have the columns
// owner, id, key_id and revision.
type SealedTable struct {
	Name    string
	Columns []string
}

// WrappedColumn is a column with keys that are wrapped under the master key.
type WrappedColumn struct{ Table, Column string }

// metaTable holds the canary, which belongs to no owner.
const metaTable = "meta"

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

// SealedColumns implements Rotation.
func (c *core) SealedColumns(ctx context.Context) ([]SealedTable, []WrappedColumn, error) {
	schema, err := c.schemaIn(ctx, c.db)
	if err != nil {
		return nil, nil, fmt.Errorf("enumerate sealed columns: %w", err)
	}
	var tables []SealedTable
	var wrapped []WrappedColumn
	for _, t := range schema {
		for _, column := range t.wrapped {
			wrapped = append(wrapped, WrappedColumn{t.name, column})
		}
		if len(t.sealed) == 0 || t.name == metaTable {
			continue
		}
		if err := t.checkSealed(); err != nil {
			return nil, nil, err
		}
		tables = append(tables, SealedTable{Name: t.name, Columns: t.sealed})
	}
	if len(tables) == 0 || len(wrapped) == 0 {
		return nil, nil, fmt.Errorf("%w: no sealed columns found", ErrSchema)
	}
	return tables, wrapped, nil
}

// tableSchema is the columns of a table: all, those with sealed values and those with wrapped keys.
// types are the declared types by column.
type tableSchema struct {
	name                     string
	columns, sealed, wrapped []string
	types                    map[string]string
}

// schemaIn returns all tables, in the order of their names.
func (c *core) schemaIn(ctx context.Context, q queryer) ([]*tableSchema, error) {
	var tables []*tableSchema
	err := c.rowsIn(ctx, q, c.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		if err := rows.Scan(&table, &column, &kind); err != nil {
			return err
		}
		if len(tables) == 0 || tables[len(tables)-1].name != table {
			tables = append(tables, &tableSchema{name: table, types: map[string]string{}})
		}
		t := tables[len(tables)-1]
		t.columns, t.types[column] = append(t.columns, column), kind
		switch kind {
		case sealedType:
			t.sealed = append(t.sealed, column)
		case wrappedType:
			t.wrapped = append(t.wrapped, column)
		}
		return nil
	})
	return tables, err
}

// checkSealed returns ErrSchema unless the table's rows tell which key they are sealed with.
func (t *tableSchema) checkSealed() error {
	for _, needed := range []string{"owner", "id", "key_id", "revision"} {
		if !slices.Contains(t.columns, needed) {
			return fmt.Errorf("%w: table %s has sealed values but no column %s", ErrSchema, t.name, needed)
		}
	}
	for _, name := range append([]string{t.name}, t.sealed...) {
		if !plainName.MatchString(name) {
			return fmt.Errorf("%w: the name %q must have only lower-case letters, digits and underscores", ErrSchema, name)
		}
	}
	return nil
}

// SealedRow is the sealed values of one row, in the order of the table's columns. The value of a
// NULL is nil.
type SealedRow struct {
	ID       string
	Revision int64
	Values   [][]byte
}

// maxBatchBytes bounds what SealedRows and SealedNotes return, except for the first row. A note may
// have 400 KiB, and a batch is in memory several times while it is sealed again and sent.
const maxBatchBytes = 1 << 20

// errBatchFull stops the reading of a batch.
var errBatchFull = errors.New("the batch is full")

// SealedRows implements Rotation.
func (c *core) SealedRows(ctx context.Context, t SealedTable, owner, key, after string, limit int) (found []SealedRow, more bool, err error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	size := 0
	err = c.rows(ctx, sealedRowsQuery(t), []any{owner, key, after, limit}, func(rows *sql.Rows) error {
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

// sealedRowsQuery reads in the order of an index, so that the cost of a batch does not depend on
// how many rows are left.
func sealedRowsQuery(t SealedTable) string {
	return "SELECT id, revision, " + strings.Join(t.Columns, ", ") + " FROM " + t.Name +
		" WHERE owner = $1 AND key_id = $2 AND id > $3 ORDER BY id LIMIT $4"
}

// written returns the result of ReplaceSealed from that of its transaction.
func written(rows int64, err error) (int64, error) {
	if errors.Is(err, errForeignKey) {
		return 0, nil // the account was deleted, and the new key with it
	}
	return rows, err
}

// CountRowsWithoutKey implements Rotation.
func (c *core) CountRowsWithoutKey(ctx context.Context, t SealedTable, r OwnerRange) (int64, error) {
	where, args := "(owner < $1 OR owner IS NULL)", []any{r.To}
	if r.From != "" {
		where, args = r.condition("")
	}
	var count int64
	err := c.row(ctx, fmt.Sprintf(`SELECT count(*) FROM %s t WHERE (%s IS NOT NULL) AND %s
		AND NOT EXISTS (SELECT 1 FROM owner_keys k WHERE k.owner = t.owner AND k.id = t.key_id)`,
		t.Name, strings.Join(t.Columns, " IS NOT NULL OR "), where), args, &count)
	return count, err
}

// WrappedValues implements Rotation.
func (c *core) WrappedValues(ctx context.Context, w WrappedColumn, visit func(string) error) error {
	return c.wrappedValuesIn(ctx, c.db, w, visit)
}

// wrappedValuesIn is WrappedValues in q.
func (c *core) wrappedValuesIn(ctx context.Context, q queryer, w WrappedColumn, visit func(string) error) error {
	if !plainName.MatchString(w.Table) || !plainName.MatchString(w.Column) {
		return fmt.Errorf("%w: the name of column %s.%s must have only lower-case letters, digits and underscores", ErrSchema, w.Table, w.Column)
	}
	return c.rowsIn(ctx, q, "SELECT "+w.Column+" FROM "+w.Table+" WHERE "+w.Column+" IS NOT NULL", nil, func(rows *sql.Rows) error {
		var value string
		if err := rows.Scan(&value); err != nil {
			return err
		}
		return visit(value)
	})
}

// CountRowsByKey implements Rotation.
func (c *core) CountRowsByKey(ctx context.Context, t SealedTable, owners []string) (map[string]int64, error) {
	where, parameter := c.dialect.oneOf("owner", owners)
	counts := map[string]int64{}
	err := c.rows(ctx, "SELECT key_id, count(*) FROM "+t.Name+" WHERE "+where+" AND key_id IS NOT NULL GROUP BY key_id", []any{parameter}, func(rows *sql.Rows) error {
		var id string
		var count int64
		err := rows.Scan(&id, &count)
		counts[id] = count
		return err
	})
	return counts, err
}
