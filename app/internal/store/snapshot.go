package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// How many rows a page of Snapshot.Rows has: the first, and at most. A page has about
// maxBatchBytes, so the later ones have as many as the rows before suggest.
const (
	firstPage = 100
	mostRows  = 10_000
)

// snapshot implements Snapshot over a transaction that reads one state of the database.
type snapshot struct {
	*core
	tx *sql.Tx
	// ended returns why the transaction has ended, or nil.
	ended func() error
	// end ends the transaction.
	end    func() error
	schema int64
	tables []Table
	// order has, for each table, the columns of its primary key as expressions that compare bytes.
	order map[string][]string
}

// inspect reads the schema in the snapshot. Error: ErrSchema.
func (s *snapshot) inspect(ctx context.Context) error {
	provider, err := s.migrations(s.db)
	if err != nil {
		return err
	}
	sources := provider.ListSources()
	latest := sources[len(sources)-1].Version
	if err := s.rowIn(ctx, s.tx, "SELECT max(version_id) FROM "+gooseTable+" WHERE is_applied", nil, &s.schema); err != nil {
		return fmt.Errorf("schema version: %w", err)
	}
	if s.schema != latest {
		return fmt.Errorf("%w: its last migration is %d, and this program needs %d: back it up with the release that has migrated it", ErrSchema, s.schema, latest)
	}
	if s.tables, err = s.backupTables(ctx, s.tx); err != nil {
		return err
	}
	return s.findOrder(ctx)
}

// findOrder sets order. The reader of an escrow file needs the same order from every database.
func (s *snapshot) findOrder(ctx context.Context) error {
	schema, err := s.schemaIn(ctx, s.tx)
	if err != nil {
		return err
	}
	types := map[string]map[string]string{}
	for _, t := range schema {
		types[t.name] = t.types
	}
	s.order = map[string][]string{}
	for _, t := range archivedTables {
		for _, column := range t.key {
			s.order[t.name] = append(s.order[t.name], s.dialect.byteOrder(column, types[t.name][column]))
		}
	}
	return nil
}

// because returns why the snapshot has ended, if it has, and otherwise err.
func (s *snapshot) because(err error) error {
	if ended := s.ended(); ended != nil {
		return ended
	}
	return err
}

// Meta implements Snapshot.
func (s *snapshot) Meta(ctx context.Context) (Meta, error) {
	m, err := s.metaIn(ctx, s.tx)
	return m, s.because(err)
}

// Fence implements Snapshot.
func (s *snapshot) Fence(ctx context.Context) (int, error) {
	fence, err := s.fenceIn(ctx, s.tx)
	return fence, s.because(err)
}

// Schema implements Snapshot.
func (s *snapshot) Schema(context.Context) (int64, error) { return s.schema, s.because(nil) }

// Tables implements Snapshot.
func (s *snapshot) Tables(context.Context) ([]Table, error) {
	return slices.Clone(s.tables), s.because(nil)
}

// OldestVersion implements Snapshot. It also reads wrapped columns that a later migration adds.
func (s *snapshot) OldestVersion(ctx context.Context) (int, error) {
	oldest, err := s.oldestVersion(ctx)
	return oldest, s.because(err)
}

func (s *snapshot) oldestVersion(ctx context.Context) (int, error) {
	oldest, err := s.oldestVersionIn(ctx, s.tx)
	if err != nil {
		return 0, err
	}
	schema, err := s.schemaIn(ctx, s.tx)
	if err != nil {
		return 0, err
	}
	for _, t := range schema {
		if t.name == metaTable || t.name == "owner_keys" {
			continue // oldestVersionIn has read their version columns
		}
		for _, column := range t.wrapped {
			err := s.wrappedValuesIn(ctx, s.tx, WrappedColumn{t.name, column}, func(value string) error {
				version, err := envelope.Wrapped(value).Version()
				if err == nil && (oldest == 0 || version < oldest) {
					oldest = version
				}
				return err
			})
			if err != nil {
				return 0, fmt.Errorf("oldest version in %s.%s: %w", t.name, column, err)
			}
		}
	}
	return oldest, nil
}

// Rows implements Snapshot.
func (s *snapshot) Rows(ctx context.Context, t Table, visit func(values []any) error) error {
	_, key, err := t.primaryKey()
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(s.tables, func(known Table) bool { return known.Name == t.Name && slices.Equal(known.Columns, t.Columns) }) {
		return fmt.Errorf("%w: table %s does not have the columns that are asked for", ErrSchema, t.Name)
	}
	p := page{limit: firstPage}
	for more := true; more; {
		more, err = s.read(ctx, t, &p)
		if err = s.because(err); err != nil {
			return err
		}
		for _, row := range p.rows {
			if err := visit(row); err != nil {
				return err
			}
		}
		if more {
			last := p.rows[len(p.rows)-1]
			p.after = p.after[:0]
			for _, position := range key {
				p.after = append(p.after, last[position])
			}
		}
	}
	return nil
}

// page is some rows of a table, in the order of the bytes of its primary key.
type page struct {
	// after is the primary key of the last row before the page; empty for the first.
	after []any
	// limit is how many rows the page may have.
	limit int
	rows  [][]any
}

// read fills the page, and reports whether there may be more rows.
func (s *snapshot) read(ctx context.Context, t Table, p *page) (more bool, err error) {
	query, args := s.pageQuery(t, p)
	p.rows = p.rows[:0]
	size := 0
	err = s.rowsIn(ctx, s.tx, query, args, func(rows *sql.Rows) error {
		row := make([]any, len(t.Columns))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, value := range row {
			n, err := sizeOf(value, t.Columns[i].Kind)
			if err != nil {
				return fmt.Errorf("column %s.%s: %w", t.Name, t.Columns[i].Name, err)
			}
			size += n
		}
		p.rows = append(p.rows, row)
		if size >= maxBatchBytes {
			return errBatchFull
		}
		return nil
	})
	full := errors.Is(err, errBatchFull)
	if err != nil && !full {
		return false, err
	}
	more = full || len(p.rows) == p.limit
	if more {
		p.limit = min(max(len(p.rows)*maxBatchBytes/max(size, 1), 1), mostRows)
	}
	return more, nil
}

// pageQuery returns the query for a page. Its order is that of the primary key's index, except for
// texts in PostgreSQL, of which each owner has few.
func (s *snapshot) pageQuery(t Table, p *page) (query string, args []any) {
	key := strings.Join(s.order[t.Name], ", ")
	where := ""
	if len(p.after) > 0 {
		where = " WHERE (" + key + ") > (" + placeholders(1, len(p.after)) + ")"
		args = append(args, p.after...)
	}
	return fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT $%d", t.columnList(), t.Name, where, key, len(args)+1), append(args, p.limit)
}

// integerSize is what an integer counts in the size of a page.
const integerSize = 8

// sizeOf returns the size of a value, and an error unless the value is NULL or of the kind.
func sizeOf(value any, kind ColumnKind) (int, error) {
	switch v := value.(type) {
	case nil:
		return 0, nil
	case string:
		if kind == TextColumn {
			return len(v), nil
		}
	case []byte:
		if kind == BytesColumn {
			return len(v), nil
		}
	case int64:
		if kind == IntegerColumn {
			return integerSize, nil
		}
	}
	return 0, fmt.Errorf("%w: a value of type %T instead of %s", ErrSchema, value, kind)
}

// Close implements Snapshot.
func (s *snapshot) Close() error {
	if err := s.end(); !errors.Is(err, sql.ErrTxDone) {
		return s.dialect.classify(err)
	}
	return nil
}
