package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Internals gives access to what is not part of Store.
func Internals(db Store) *core { return db.(interface{ internals() *core }).internals() }

func (c *core) internals() *core { return c }

// Execute runs a statement.
func (c *core) Execute(ctx context.Context, statement string, args ...any) error {
	_, err := c.exec(ctx, statement, args...)
	return err
}

// ColumnTypes returns the declared type of each column, by TABLE.COLUMN.
func (c *core) ColumnTypes(ctx context.Context) (map[string]string, error) {
	types := map[string]string{}
	err := c.rows(ctx, c.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		types[table+"."+column] = kind
		return err
	})
	return types, err
}

// Creation is one note for CreateTogether.
type Creation struct {
	Identity sessions.Identity
	Note     notes.Sealed
}

// joiner is the part of a database that joins concurrent requests.
type joiner interface {
	createNotes(context.Context, []creation) []batch.Result[struct{}]
	shared() *core
	readNotes(context.Context, []reading) []batch.Result[readNote]
}

func (c *core) shared() *core { return c }

// CreateTogether creates notes as concurrent requests do.
func CreateTogether(ctx context.Context, db Store, now time.Time, list []Creation) []error {
	joined := make([]creation, len(list))
	for i, c := range list {
		joined[i] = creation{c.Identity, now, c.Note}
	}
	errs := make([]error, len(list))
	for i, result := range db.(joiner).createNotes(ctx, joined) {
		if errs[i] = result.Err; errors.Is(result.Err, errRunAlone) {
			c := db.(joiner).shared()
			errs[i] = c.createNoteIn(ctx, c.db, joined[i].id, joined[i].now, joined[i].note)
		}
	}
	return errs
}

// Reading is one note for ReadTogether.
type Reading struct {
	Identity sessions.Identity
	Note     string
}

// ReadTogether reads notes as concurrent requests do.
func ReadTogether(ctx context.Context, db Store, now time.Time, list []Reading) ([]notes.Sealed, []error) {
	joined := make([]reading, len(list))
	for i, r := range list {
		joined[i] = reading{r.Identity, now, r.Note}
	}
	found, errs := make([]notes.Sealed, len(list)), make([]error, len(list))
	for i, result := range db.(joiner).readNotes(ctx, joined) {
		found[i], errs[i] = result.Value.note, result.Err
	}
	return found, errs
}

// RowsOf counts a user's rows by table: in every table with a column owner, in users and in limits.
func (c *core) RowsOf(ctx context.Context, owner string) (map[string]int, error) {
	conditions := map[string]string{"users": "id = $1", "limits": "key LIKE '%' || $1 || '%'"}
	err := c.rows(ctx, c.dialect.columnTypes(), nil, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		if column == "owner" {
			conditions[table] = "owner = $1"
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	counts := map[string]int{}
	for table, condition := range conditions {
		var count int
		if err := c.row(ctx, "SELECT count(*) FROM "+table+" WHERE "+condition, []any{owner}, &count); err != nil {
			return nil, err
		}
		counts[table] = count
	}
	return counts, nil
}

// Setting returns a setting of PostgreSQL.
func (c *core) Setting(ctx context.Context, name string) (value string, err error) {
	err = c.row(ctx, "SELECT current_setting($1)", []any{name}, &value)
	return value, err
}

// The most frequent statements of a rotation on PostgreSQL.
var (
	ReplaceActiveKeysStatement  = underFence(syncCommit, replaceActiveKeysStatement)
	DeleteReplacedKeysStatement = underFence(syncCommit, deleteReplacedKeysStatement)
)

// ReplaceSealedStatement returns the statement of ReplaceSealed on PostgreSQL.
func ReplaceSealedStatement(t SealedTable) string {
	return underFence(asyncCommit, replaceSealedStatement(t))
}

// SealedRowsQuery returns the query of SealedRows.
func SealedRowsQuery(t SealedTable) string { return sealedRowsQuery(t) }

// OwnersKeysQuery returns the query of OwnersKeys on PostgreSQL.
func OwnersKeysQuery(tables []SealedTable) string {
	where, _ := postgresDialect{}.oneOf("k.owner", nil)
	return rotationKeysQuery(tables, where+ownersKeysOrder)
}

// Pooled reports whether a connection leads to a pooler.
func (c *core) Pooled(ctx context.Context) (pooled bool, err error) {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	err = conn.Raw(func(driverConn any) error {
		_, pooled = driverConn.(*pooledConn)
		return nil
	})
	return pooled, err
}

// Returning runs a statement that returns one number.
func (c *core) Returning(ctx context.Context, statement string) error {
	var n int
	return c.row(ctx, statement, nil, &n)
}

// ArchivedTables returns the primary key of each table of a backup, and their names in order.
func ArchivedTables() (names []string, keys map[string][]string) {
	keys = map[string][]string{}
	for _, t := range archivedTables {
		keys[t.name] = t.key
	}
	return archivedNames(), keys
}

// NeverArchived returns the tables that a backup does not contain, and those of them that are empty
// after a restore, in order.
func NeverArchived() (all, emptied []string) {
	for _, t := range neverArchived {
		all = append(all, t.name)
	}
	return all, emptiedNames()
}

// PrimaryKeys returns the columns of each table's primary key.
func (c *core) PrimaryKeys(ctx context.Context) (map[string][]string, error) {
	query := `SELECT i.indrelid::regclass::text, a.attname::text FROM pg_index i CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, position)
		JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
		JOIN pg_class t ON t.oid = i.indrelid WHERE i.indisprimary AND t.relnamespace = current_schema()::regnamespace ORDER BY 1, k.position`
	if c.isSQLite() {
		query = "SELECT m.name, c.name FROM sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.pk > 0 ORDER BY 1, c.pk"
	}
	return c.pairs(ctx, query)
}

// References returns the tables that each table's foreign keys refer to.
func (c *core) References(ctx context.Context) (map[string][]string, error) {
	query := "SELECT conrelid::regclass::text, confrelid::regclass::text FROM pg_constraint WHERE contype = 'f' AND connamespace = current_schema()::regnamespace"
	if c.isSQLite() {
		query = `SELECT m.name, f."table" FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table'`
	}
	return c.pairs(ctx, query)
}

func (c *core) isSQLite() bool {
	_, is := c.dialect.(*sqliteDialect)
	return is
}

// pairs returns the second values of a query's rows by the first.
func (c *core) pairs(ctx context.Context, query string) (map[string][]string, error) {
	found := map[string][]string{}
	err := c.rows(ctx, query, nil, func(rows *sql.Rows) error {
		var first, second string
		err := rows.Scan(&first, &second)
		found[first] = append(found[first], second)
		return err
	})
	return found, err
}

// Transact runs statements in one transaction, each with the arguments.
func (c *core) Transact(ctx context.Context, args []any, statements ...string) error {
	return c.transact(ctx, func(tx queryer) error {
		for _, statement := range statements {
			if _, err := c.execIn(ctx, tx, statement, args...); err != nil {
				return err
			}
		}
		return nil
	})
}

// Count returns the number that a query selects.
func (c *core) Count(ctx context.Context, query string) (n int64, err error) {
	err = c.row(ctx, query, nil, &n)
	return n, err
}

// PageQuery returns the query for a page of a snapshot, after the row with the primary key.
func PageQuery(s Snapshot, t Table, after ...any) string {
	query, _ := s.(*snapshot).pageQuery(t, &page{after: after})
	return query
}
