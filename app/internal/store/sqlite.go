package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/batch"
)

// sqliteStore is a SQLite database. SQLite has one writer at a time.
type sqliteStore struct {
	core
	// path and file are those of the open database.
	path string
	file os.FileInfo
	// borrowed means that another store closes db.
	borrowed bool
}

var _ Store = (*sqliteStore)(nil)

// openSQLite opens the file, which it creates if necessary.
func openSQLite(ctx context.Context, c config.SQLite) (Store, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if err := createPrivate(path); err != nil {
		return nil, fmt.Errorf("%w: SQLite at %s: %w", ErrUnavailable, c.Path, err)
	}
	// synchronous=FULL: an acknowledged write is on disk. _txlock=immediate: transactions begin as
	// writers, so that two of them wait for each other at the start and never deadlock.
	source := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			"busy_timeout(10000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)",
			"secure_delete(1)", "trusted_schema(0)",
		},
	}.Encode()}
	db, err := sql.Open("sqlite", source.String())
	if err != nil {
		return nil, fmt.Errorf("SQLite at %s: %w", c.Path, err)
	}
	db.SetMaxOpenConns(8)
	s := newSQLiteStore(db, &sqliteDialect{})
	var foreignKeys int
	if err := s.row(ctx, "PRAGMA foreign_keys", nil, &foreignKeys); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("SQLite at %s: %w", c.Path, err)
	}
	if foreignKeys != 1 {
		_ = db.Close()
		return nil, fmt.Errorf("SQLite at %s: foreign keys are not enforced", c.Path)
	}
	s.path = path
	if s.file, err = os.Stat(path); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("%w: SQLite at %s: %w", ErrUnavailable, c.Path, err)
	}
	return s, nil
}

// createPrivate creates the file for its owner only, unless it exists: SQLite would let others read
// it, and gives the files beside it the same mode.
func createPrivate(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return file.Close()
}

// newSQLiteStore returns the store over an open database.
func newSQLiteStore(db *sql.DB, d dialect) *sqliteStore {
	s := &sqliteStore{core: core{db: db, dialect: d}}
	s.creates = batch.New(createBatches, creation.size, s.createNotes)
	s.reads = batch.New(readBatches, nil, s.readNotes)
	return s
}

// Background implements Administration. SQLite has no sessions to tell apart, so it shares the
// pool.
func (s *sqliteStore) Background() Store {
	background := newSQLiteStore(s.db, s.dialect)
	background.path, background.file, background.borrowed = s.path, s.file, true
	return background
}

// Close implements Administration.
func (s *sqliteStore) Close() error {
	if s.borrowed {
		return nil
	}
	return s.db.Close()
}

// Ping implements Administration. Error: ErrRestored if the file is no longer the one that is open:
// what this process still writes to that one is lost.
func (s *sqliteStore) Ping(ctx context.Context) error {
	file, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && !os.SameFile(s.file, file):
		return fmt.Errorf("%w: the file %s was replaced or deleted", ErrRestored, s.path)
	case err != nil:
		return fmt.Errorf("%w: SQLite: %w", ErrUnavailable, err)
	}
	var one int
	return s.row(ctx, "SELECT 1", nil, &one)
}

// Migrate implements Administration. The single writer is lock enough.
func (s *sqliteStore) Migrate(ctx context.Context) (int, error) {
	provider, err := s.migrations(s.db)
	if err != nil {
		return 0, err
	}
	return s.migrate(ctx, provider)
}

// Writers implements Rotation.
func (*sqliteStore) Writers() int { return 1 }

// UsersAtWork implements Rotation.
func (*sqliteStore) UsersAtWork(context.Context, time.Duration) (int, error) {
	return 0, errors.ErrUnsupported
}

// sqliteDialect is the dialect of SQLite. A transaction begins as the only writer and needs no row
// locks.
type sqliteDialect struct {
	// rebound holds the result of rebind for each query.
	rebound sync.Map
}

var placeholder = regexp.MustCompile(`\$(\d+)`)

func (d *sqliteDialect) rebind(query string) string {
	if known, ok := d.rebound.Load(query); ok {
		return known.(string)
	}
	rebound := placeholder.ReplaceAllString(query, "?$1")
	d.rebound.Store(query, rebound)
	return rebound
}

func (*sqliteDialect) lockShared() string    { return "" }
func (*sqliteDialect) lockExclusive() string { return "" }

func (*sqliteDialect) oneOf(column string, values []string) (condition string, parameter any) {
	list, _ := json.Marshal(values) // strings always marshal
	return column + " IN (SELECT value FROM json_each($1))", string(list)
}

func (*sqliteDialect) columnTypes() string {
	return `SELECT m.name AS table_name, c.name AS column_name, lower(c.type) AS declared FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1, c.cid`
}

func (*sqliteDialect) migrations() (goose.Dialect, string) {
	return goose.DialectSQLite3, "migrations/sqlite"
}
