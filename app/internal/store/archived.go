package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// archivedTable is a table of a backup, and the columns of its primary key.
type archivedTable struct {
	name string
	key  []string
}

// archivedTables are the tables of a backup. A table comes after those that its foreign keys refer
// to. A migration that adds a table adds it here or to neverArchived.
var archivedTables = []archivedTable{
	{"users", []string{"id"}},
	{"owner_keys", []string{"owner", "id"}},
	{"owner_key_seals", []string{"owner", "key_id"}},
	{"notes", []string{"owner", "id"}},
	{"second_factors", []string{"owner", "id"}},
	{"recovery_codes", []string{"owner", "digest"}},
}

// neverArchived are the tables that a backup does not contain.
var neverArchived = []struct {
	name string
	// emptied means that a restored database has no rows of it.
	emptied bool
}{
	{name: "sessions", emptied: true},
	{name: "idempotency_keys", emptied: true},
	{name: "limits", emptied: true},
	{name: "meta"},
	{name: "fence"},
	{name: gooseTable},
}

// gooseTable is where goose records the migrations.
const gooseTable = "goose_db_version"

// archivedNames returns the names of the archived tables.
func archivedNames() []string {
	names := make([]string, len(archivedTables))
	for i, t := range archivedTables {
		names[i] = t.name
	}
	return names
}

// emptiedNames returns the names of the tables that are empty after a restore.
func emptiedNames() (names []string) {
	for _, t := range neverArchived {
		if t.emptied {
			names = append(names, t.name)
		}
	}
	return names
}

// columnKinds are the kinds of columns by their declared types in both databases.
var columnKinds = map[string]ColumnKind{
	"uuid": TextColumn, "text": TextColumn, wrappedType: TextColumn,
	"integer": IntegerColumn, "bigint": IntegerColumn,
	sealedType: BytesColumn,
}

// backupTables returns the tables of a backup as the schema in q has them. Error: ErrSchema.
func (c *core) backupTables(ctx context.Context, q queryer) ([]Table, error) {
	schema, err := c.schemaIn(ctx, q)
	if err != nil {
		return nil, fmt.Errorf("tables of a backup: %w", err)
	}
	var tables []Table
	for _, known := range archivedTables {
		i := slices.IndexFunc(schema, func(t *tableSchema) bool { return t.name == known.name })
		if i < 0 {
			return nil, fmt.Errorf("%w: there is no table %s", ErrSchema, known.name)
		}
		t, err := schema[i].backupTable()
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, checkKnown(schema)
}

// checkKnown returns ErrSchema if there is a table of which it is not known whether a backup
// contains it.
func checkKnown(schema []*tableSchema) error {
	for _, t := range schema {
		if !isKnown(t.name) {
			return fmt.Errorf("%w: it has a table %s, which is not from SecureNotes: move it to another schema or database", ErrSchema, t.name)
		}
	}
	return nil
}

// isKnown reports whether it is known whether a backup contains the table.
func isKnown(table string) bool {
	for _, t := range neverArchived {
		if t.name == table {
			return true
		}
	}
	return slices.Contains(archivedNames(), table)
}

// backupTable returns the table with all of its columns. Error: ErrSchema.
func (t *tableSchema) backupTable() (Table, error) {
	table := Table{Name: t.name}
	for _, column := range t.columns {
		kind, known := columnKinds[t.types[column]]
		if !known || !plainName.MatchString(column) {
			return Table{}, fmt.Errorf("%w: a backup cannot contain column %s.%s of type %s", ErrSchema, t.name, column, t.types[column])
		}
		table.Columns = append(table.Columns, Column{Name: column, Kind: kind})
	}
	return table, nil
}

// primaryKey returns the primary key of an archived table, and where its columns are among those of
// t. Error: ErrSchema.
func (t Table) primaryKey() (columns []string, positions []int, err error) {
	i := slices.IndexFunc(archivedTables, func(known archivedTable) bool { return known.name == t.Name })
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: no backup contains a table %q", ErrSchema, t.Name)
	}
	for _, key := range archivedTables[i].key {
		position := slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == key })
		if position < 0 {
			return nil, nil, fmt.Errorf("%w: the backup's table %s has no column %s", ErrSchema, t.Name, key)
		}
		positions = append(positions, position)
	}
	return archivedTables[i].key, positions, nil
}

// columnList returns the names of the columns, for a statement.
func (t Table) columnList() string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return strings.Join(names, ", ")
}

// placeholders returns the placeholders $first to $(first+n-1), for a statement.
func placeholders(first, n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(list, ", ")
}
