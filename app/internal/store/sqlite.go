package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
)

func openSQLite(ctx context.Context, c config.SQLite) (*Store, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	// synchronous=FULL: an answered write is on the disk. Transactions begin as writers, so that two
	// of them wait for each other at the start and never deadlock in the middle.
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
	s := newStore(db, &sqliteDialect{})
	var foreignKeys int
	if err := s.row(ctx, "PRAGMA foreign_keys", nil, &foreignKeys); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("SQLite at %s: %w", c.Path, err)
	}
	if foreignKeys != 1 {
		_ = db.Close()
		return nil, fmt.Errorf("SQLite at %s: foreign keys are not enforced", c.Path)
	}
	return s, nil
}

type sqliteDialect struct{ rebound sync.Map }

var placeholder = regexp.MustCompile(`\$(\d+)`)

func (d *sqliteDialect) rebind(query string) string {
	if known, ok := d.rebound.Load(query); ok {
		return known.(string)
	}
	rebound := placeholder.ReplaceAllString(query, "?$1")
	d.rebound.Store(query, rebound)
	return rebound
}

// SQLite has one writer at a time; a transaction that began as a writer needs no row locks.
func (*sqliteDialect) lockShared() string { return "" }

func (*sqliteDialect) oneOf(column string, values []string) (condition string, parameter any) {
	list, _ := json.Marshal(values) // strings always can be
	return column + " IN (SELECT value FROM json_each($1))", string(list)
}

func (*sqliteDialect) lockExclusive() string { return "" }
func (*sqliteDialect) migrations() string    { return "migrations/sqlite" }

func (d *sqliteDialect) background(s *Store) *Store {
	b := newStore(s.db, d)
	b.borrowed = true
	return b
}

func (*sqliteDialect) close() error { return nil }

func (*sqliteDialect) ping(ctx context.Context, s *Store) error {
	var one int
	return s.row(ctx, "SELECT 1", nil, &one)
}

// insertNotes needs one transaction, and so one wait for the disk, for all.
func (*sqliteDialect) insertNotes(ctx context.Context, s *Store, list []creation) (map[string]bool, error) {
	stored := make(map[string]bool, len(list))
	err := s.once(ctx, func(tx queryer) error {
		for _, c := range list {
			err := s.createNoteIn(ctx, tx, c.id, c.now, c.note)
			if err != nil && !errors.Is(err, envelope.ErrKeyNotActive) {
				return err
			}
			stored[c.note.ID] = err == nil
		}
		return nil
	})
	return stored, err
}

func (*sqliteDialect) insertUser(ctx context.Context, s *Store, user accounts.User, key envelope.StoredKey, _ int) error {
	return s.once(ctx, func(tx queryer) error {
		_, err := s.execIn(ctx, tx, `INSERT INTO users (id, username, password_hash, pepper_id, created_at) VALUES ($1, $2, $3, $4, $5)`,
			user.ID, user.Username, user.PasswordHash, user.PepperID, micros(user.CreatedAt))
		if err != nil {
			return err
		}
		return s.insertActiveKey(ctx, tx, key, user.CreatedAt)
	})
}

func (*sqliteDialect) replaceSealed(ctx context.Context, s *Store, to int, t SealedTable, owner, oldKey, newKey string, batch []SealedRow) (int64, error) {
	set := make([]string, len(t.Columns))
	for i, column := range t.Columns {
		set[i] = fmt.Sprintf("%s = $%d", column, i+6)
	}
	query := "UPDATE " + t.Name + " SET key_id = $1, " + strings.Join(set, ", ") +
		" WHERE owner = $2 AND id = $3 AND key_id = $4 AND revision = $5"
	var written int64
	err := s.inRotation(ctx, to, func(tx queryer) error {
		written = 0
		for _, row := range batch {
			args := []any{newKey, owner, row.ID, oldKey, row.Revision}
			for _, value := range row.Values {
				args = append(args, value)
			}
			changed, err := s.execIn(ctx, tx, query, args...)
			if err != nil {
				return err
			}
			written += changed
		}
		if written == 0 {
			return nil
		}
		_, err := s.countSealsIn(ctx, tx, owner, newKey, written*int64(len(t.Columns)))
		return err
	})
	return written, err
}

// queueForFence has nothing to do: a transaction is alone.
func (*sqliteDialect) queueForFence(context.Context, *Store, queryer) error { return nil }

func (*sqliteDialect) replaceActiveKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey, _ []int, now time.Time) error {
	return s.inRotation(ctx, to, func(tx queryer) error {
		for _, key := range keys {
			retired, err := s.execIn(ctx, tx, "UPDATE owner_keys SET state = 'retiring' WHERE owner = $1 AND state = 'active' AND born_version < $2", key.Owner, to)
			if err == nil && retired > 0 {
				err = s.insertActiveKey(ctx, tx, key, now)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (*sqliteDialect) replaceWrappings(ctx context.Context, s *Store, to int, keys []Rewrapped, versions []int) (int64, error) {
	var replaced int64
	err := s.inRotation(ctx, to, func(tx queryer) error {
		replaced = 0
		for i, key := range keys {
			changed, err := s.execIn(ctx, tx, "UPDATE owner_keys SET wrapped = $1, kek_version = $2 WHERE owner = $3 AND id = $4 AND wrapped = $5",
				string(key.New), versions[i], key.Owner, key.ID, string(key.Wrapped))
			if err != nil {
				return err
			}
			replaced += changed
		}
		return nil
	})
	return replaced, err
}

func (*sqliteDialect) deleteRetiredKeys(ctx context.Context, s *Store, to int, keys []envelope.StoredKey) error {
	return s.inRotation(ctx, to, func(tx queryer) error {
		for _, key := range keys {
			if _, err := s.execIn(ctx, tx, "DELETE FROM owner_keys WHERE owner = $1 AND id = $2 AND state = 'retiring'", key.Owner, key.ID); err != nil {
				return err
			}
		}
		return nil
	})
}

// selectNotes has no round trip to save: SQLite is in this process.
func (*sqliteDialect) selectNotes(ctx context.Context, s *Store, list []reading) ([]batch.Result[readNote], error) {
	results := make([]batch.Result[readNote], len(list))
	for i, r := range list {
		results[i] = s.selectNote(ctx, r)
	}
	return results, nil
}

func (*sqliteDialect) columnTypes() string {
	return `SELECT m.name, c.name, lower(c.type) FROM sqlite_schema m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' ORDER BY 1, c.cid`
}

func (*sqliteDialect) classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var failure *sqlite.Error
	if !errors.As(err, &failure) {
		return err
	}
	text := failure.Error()
	switch failure.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w: %w", errRetry, err)
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY,
		sqlite3.SQLITE_INTERRUPT, sqlite3.SQLITE_NOMEM:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case sqlite3.SQLITE_CONSTRAINT:
		switch {
		case strings.Contains(text, "securenotes: fence"):
			return fmt.Errorf("%w: %w", accounts.ErrFenced, err)
		case strings.Contains(text, "users.username"):
			return accounts.ErrUsernameTaken
		case strings.Contains(text, "notes.owner, notes.id"):
			return notes.ErrExists
		case strings.Contains(text, "FOREIGN KEY constraint failed"):
			return fmt.Errorf("%w: %w", errStillNeeded, err)
		case strings.Contains(text, "UNIQUE constraint failed"):
			return fmt.Errorf("%w: %w", errRetry, err)
		}
	case sqlite3.SQLITE_ERROR:
		switch {
		case strings.Contains(text, "no such table"):
			return fmt.Errorf("%w: %w", errNoTable, err)
		case strings.Contains(text, "no such column"):
			return fmt.Errorf("%w: %w", ErrSchema, err)
		}
	}
	return err
}
