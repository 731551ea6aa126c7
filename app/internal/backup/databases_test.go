package backup_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// database is an empty database without a schema.
type database struct {
	config config.Database
	// driver and source are those of package sql, for what package store does not offer.
	driver, source string
}

func newSQLite(t testing.TB) *database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notes.db")
	return &database{config: config.Database{SQLite: &config.SQLite{Path: path}}, driver: "sqlite", source: path}
}

// newMigratedSQLite returns an empty database that need not be migrated, which takes longer than
// most tests.
func newMigratedSQLite(t testing.TB) *database {
	t.Helper()
	d := newSQLite(t)
	storetest.SQLiteAt(t, d.source)
	return d
}

// open opens the database as a Job.
func (d *database) open(t testing.TB) store.Store {
	t.Helper()
	db, err := store.Open(context.Background(), d.config, nil, store.RoleJob)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// query runs a query and returns the rows as text.
func (d *database) query(t testing.TB, query string) [][]string {
	t.Helper()
	db, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(context.Background(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := make([]string, len(columns))
		for i, value := range values {
			row[i] = fmt.Sprintf("%s=%x", columns[i], fmt.Sprint(value))
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// execute runs a statement.
func (d *database) execute(t testing.TB, statement string) {
	t.Helper()
	db, err := sql.Open(d.driver, d.source)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// tables returns the names of all tables.
func (d *database) tables(t testing.TB) []string {
	t.Helper()
	query := "SELECT name AS x FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
	if d.driver != "sqlite" {
		query = "SELECT table_name AS x FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
	}
	var names []string
	for _, row := range d.query(t, query) {
		var name string
		if _, err := fmt.Sscanf(row[0], "x=%x", &name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// dump returns every row of every table.
func (d *database) dump(t testing.TB) string {
	t.Helper()
	var out strings.Builder
	for _, table := range d.tables(t) {
		rows := make([]string, 0)
		for _, row := range d.query(t, "SELECT * FROM "+table) {
			rows = append(rows, strings.Join(row, " "))
		}
		slices.Sort(rows)
		fmt.Fprintf(&out, "%s:\n%s\n", table, strings.Join(rows, "\n"))
	}
	return out.String()
}
