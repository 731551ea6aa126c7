package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/securenotes/securenotes/app/internal/accounts"
)

// startRestore is StartRestore. prepare locks the database against everything else and checks that
// it is not in use. empty deletes all rows of the tables, each before those that it refers to.
func (c *core) startRestore(ctx context.Context, run string, m Meta, existing Existing, prepare func(queryer) error, empty func(tx queryer, tables []string) error) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	tables := archivedNames()
	slices.Reverse(tables)
	tables = append(emptiedNames(), tables...)
	return c.transactUntilKnown(ctx, c.isRun(ctx, run), func(tx queryer) error {
		if err := prepare(tx); err != nil {
			return err
		}
		if err := c.mustBeFree(ctx, tx, m.BelongsTo, existing); err != nil {
			return err
		}
		if err := empty(tx, tables); err != nil {
			return err
		}
		if _, err := c.execIn(ctx, tx, "UPDATE fence SET min_kek_version = 0 WHERE id = 1"); err != nil {
			return err
		}
		_, err := c.execIn(ctx, tx, `INSERT INTO meta (id, deployment_id, belongs_to, canary_id, canary_version, canary_wrapped, canary)
			VALUES (1, $1, $2, $3, $4, $5, $6)
			ON CONFLICT (id) DO UPDATE SET deployment_id = excluded.deployment_id, belongs_to = excluded.belongs_to, canary_id = excluded.canary_id,
				canary_version = excluded.canary_version, canary_wrapped = excluded.canary_wrapped, canary = excluded.canary, pepper_digest = NULL`,
			restoringPrefix+run, m.BelongsTo, m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed)
		return err
	})
}

// mustBeFree returns ErrSchema if there is a table that is not known, ErrOtherDeployment if there
// is an unfinished restore of another SecureNotes, and ErrNotEmpty if there is a user, no
// unfinished restore, and existing refuses it.
func (c *core) mustBeFree(ctx context.Context, q queryer, belongsTo string, existing Existing) error {
	schema, err := c.schemaIn(ctx, q)
	if err != nil {
		return err
	}
	if err := checkKnown(schema); err != nil {
		return err
	}
	var id, other string
	err = c.rowIn(ctx, q, "SELECT deployment_id, belongs_to FROM meta WHERE id = 1", nil, &id, &other)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	switch _, restoring := Restoring(id); {
	case restoring && other != belongsTo:
		return fmt.Errorf("%w: a restore of %s has not finished: correct the database URI, or restore into another, empty database", ErrOtherDeployment, other)
	case restoring, existing == DeleteExisting:
		return nil
	}
	var users int
	err = c.rowIn(ctx, q, "SELECT count(*) FROM (SELECT 1 FROM users LIMIT 1) AS one", nil, &users)
	if err == nil && users > 0 {
		err = fmt.Errorf("%w: restore into another, empty database, or correct the database URI if this is the wrong one", ErrNotEmpty)
	}
	return err
}

// checkRestore is CheckRestore on both databases.
func (c *core) checkRestore(ctx context.Context, belongsTo string, existing Existing) error {
	if err := c.mustBeFree(ctx, c.db, belongsTo, existing); err != nil && !errors.Is(err, errNoTable) {
		return err
	}
	return nil
}

// isRun returns a check for untilKnown: it reports whether the database is one that the run fills.
func (c *core) isRun(ctx context.Context, run string) func() (bool, error) {
	return c.exists(ctx, "SELECT count(*) FROM meta WHERE id = 1 AND deployment_id = $1", restoringPrefix+run)
}

// checkRun returns ErrRestoreSuperseded unless the database is one that the run fills. The lock
// keeps it so until the transaction ends.
func (c *core) checkRun(ctx context.Context, tx queryer, run, lock string) error {
	var id string
	err := c.rowIn(ctx, tx, "SELECT deployment_id FROM meta WHERE id = 1"+lock, nil, &id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if id != restoringPrefix+run {
		return fmt.Errorf("%w: its deployment id is %q, and this is run %s", ErrRestoreSuperseded, id, run)
	}
	return nil
}

// loadedTypes returns the declared types of the columns of t, in their order. Error: ErrSchema.
func (c *core) loadedTypes(ctx context.Context, t Table) ([]string, error) {
	if _, _, err := t.primaryKey(); err != nil {
		return nil, err
	}
	declared := map[string]string{}
	err := c.rows(ctx, "SELECT * FROM ("+c.dialect.columnTypes()+") AS c WHERE table_name = $1", []any{t.Name}, func(rows *sql.Rows) error {
		var table, column, kind string
		err := rows.Scan(&table, &column, &kind)
		declared[column] = kind
		return err
	})
	if err != nil {
		return nil, err
	}
	types := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		kind, exists := declared[column.Name]
		switch {
		case !exists:
			return nil, fmt.Errorf("%w: it has no column %s.%s, which the backup has: restore it with the release that made it, or a later one", ErrSchema, t.Name, column.Name)
		case columnKinds[kind] != column.Kind:
			return nil, fmt.Errorf("%w: column %s.%s is of type %s, and %s in the backup", ErrSchema, t.Name, column.Name, kind, column.Kind)
		}
		types[i] = kind
		delete(declared, column.Name) // a column that is named twice does not exist the second time
	}
	return types, nil
}

// checkRows returns ErrSchema unless the values of the rows are of the columns' kinds.
func (t Table) checkRows(rows [][]any) error {
	for i, row := range rows {
		if len(row) != len(t.Columns) {
			return fmt.Errorf("%w: row %d of table %s has %d values for %d columns", ErrSchema, i+1, t.Name, len(row), len(t.Columns))
		}
		for j, value := range row {
			if _, err := sizeOf(value, t.Columns[j].Kind); err != nil {
				return fmt.Errorf("row %d, column %s.%s: %w", i+1, t.Name, t.Columns[j].Name, err)
			}
		}
	}
	return nil
}

// load is Load with a function that inserts the rows in one transaction, after checkRun. The last
// row tells whether a transaction of unknown outcome was committed.
func (c *core) load(ctx context.Context, t Table, rows [][]any, insert func() error) error {
	columns, positions, err := t.primaryKey()
	if err != nil {
		return err
	}
	key := make([]any, len(positions))
	for i, position := range positions {
		key[i] = rows[len(rows)-1][position]
	}
	query := "SELECT count(*) FROM " + t.Name + " WHERE "
	for i, column := range columns {
		if i > 0 {
			query += " AND "
		}
		query += fmt.Sprintf("%s = $%d", column, i+1)
	}
	err = c.untilKnown(ctx, c.exists(ctx, query, key...), insert)
	switch {
	case errors.Is(err, errForeignKey):
		return fmt.Errorf("%w: rows that table %s refers to are gone", ErrForeignRows, t.Name)
	case errors.Is(err, accounts.ErrFenced):
		return fmt.Errorf("%w: the fence has been raised", ErrForeignRows)
	case errors.Is(err, errDuplicate):
		return fmt.Errorf("%w: table %s already has one of the rows", ErrForeignRows, t.Name)
	}
	return err
}

// finishRestore is FinishRestore. lock locks the tables against writes until the transaction ends.
func (c *core) finishRestore(ctx context.Context, run string, m Meta, fence int, want map[string]int64, lock func(tx queryer, tables []string) error) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if !slices.Contains(archivedNames(), name) {
			return fmt.Errorf("%w: no backup contains a table %q", ErrSchema, name)
		}
	}
	epoch := rand.Text()
	committed := c.exists(ctx, "SELECT count(*) FROM meta WHERE id = 1 AND deployment_id = $1 AND epoch = $2", m.DeploymentID, epoch)
	return c.transactUntilKnown(ctx, committed, func(tx queryer) error {
		if err := c.checkRun(ctx, tx, run, c.dialect.lockExclusive()); err != nil {
			return err
		}
		if err := lock(tx, append(archivedNames(), emptiedNames()...)); err != nil {
			return err
		}
		if err := c.checkCounts(ctx, tx, want); err != nil {
			return err
		}
		if _, err := c.execIn(ctx, tx, "UPDATE fence SET min_kek_version = $1 WHERE id = 1 AND min_kek_version < $1", fence); err != nil {
			return err
		}
		_, err := c.execIn(ctx, tx, `UPDATE meta SET deployment_id = $1, belongs_to = $2, canary_id = $3, canary_version = $4, canary_wrapped = $5,
			canary = $6, pepper_digest = $7, epoch = $8 WHERE id = 1`,
			m.DeploymentID, m.BelongsTo, m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed, nullable(m.PepperDigest), epoch)
		return err
	})
}

// checkCounts returns ErrForeignRows unless each table has as many rows as the backup.
func (c *core) checkCounts(ctx context.Context, tx queryer, want map[string]int64) error {
	for _, name := range append(archivedNames(), emptiedNames()...) {
		var got int64
		if err := c.rowIn(ctx, tx, "SELECT count(*) FROM "+name, nil, &got); err != nil {
			return err
		}
		if got != want[name] {
			return fmt.Errorf("%w: table %s has %d rows, and the backup %d", ErrForeignRows, name, got, want[name])
		}
	}
	return nil
}
