package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

func (*sqliteDialect) classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	failure, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
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
			return fmt.Errorf("%w: %w", errForeignKey, err)
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

// isDuplicate reports whether a statement would have inserted a second row with the same key.
func isDuplicate(err error) bool {
	failure, ok := errors.AsType[*sqlite.Error](err)
	return ok && failure.Code()&0xff == sqlite3.SQLITE_CONSTRAINT && strings.Contains(failure.Error(), "UNIQUE constraint failed")
}
