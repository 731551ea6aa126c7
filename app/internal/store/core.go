package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/securenotes/securenotes/app/internal/batch"
)

// maxTransactionAttempts bounds how often a transaction is tried.
const maxTransactionAttempts = 8

// core is what the two databases share: the connection pool, placeholders, error classification,
// retries and transactions. Its exported methods, in the other files, are the operations whose SQL
// is the same on both. [postgresStore] and [sqliteStore] embed it and add the rest of [Store].
type core struct {
	db      *sql.DB
	dialect dialect
	// creates and reads join the concurrent requests that create or read one note. The database
	// that embeds the core sets both.
	creates *batch.Group[creation, struct{}]
	reads   *batch.Group[reading, readNote]
	// expected is what Expect was called with, or nil.
	expected *Meta
}

// dialect is how a database spells what the shared statements need, and how it reports errors.
type dialect interface {
	// rebind replaces the placeholders $1, $2, ... by the database's own.
	rebind(query string) string
	// classify turns an error of the driver into one of this package or the domain.
	classify(err error) error
	// lockShared is appended to a SELECT whose rows must not change until the transaction ends.
	lockShared() string
	// lockExclusive is appended to a SELECT whose rows no other transaction may lock.
	lockExclusive() string
	// oneOf returns the condition that the column has one of the values, and the query's parameter
	// $1.
	oneOf(column string, values []string) (condition string, parameter any)
	// columnTypes is the query for the table, name and declared type of every column of the schema.
	columnTypes() string
	// byteOrder returns the expression that orders rows by the bytes of a column of the declared
	// type, whatever the database's collation is.
	byteOrder(column, declared string) string
	// migrations returns the database's kind and the directory of its migrations.
	migrations() (kind goose.Dialect, directory string)
}

// queryer is a database or a transaction.
type queryer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// exec runs one statement as a transaction of its own and returns how many rows it changed.
func (c *core) exec(ctx context.Context, query string, args ...any) (int64, error) {
	var changed int64
	err := c.retry(ctx, func() (err error) {
		changed, err = c.execIn(ctx, c.db, query, args...)
		return err
	})
	return changed, err
}

// execIn runs one statement in q and returns how many rows it changed.
func (c *core) execIn(ctx context.Context, q queryer, query string, args ...any) (int64, error) {
	result, err := q.ExecContext(ctx, c.dialect.rebind(query), args...)
	if err != nil {
		return 0, c.dialect.classify(err)
	}
	return result.RowsAffected()
}

// row reads one row. It returns sql.ErrNoRows unchanged.
func (c *core) row(ctx context.Context, query string, args []any, into ...any) error {
	return c.rowIn(ctx, c.db, query, args, into...)
}

// rowIn reads one row in q. It returns sql.ErrNoRows unchanged.
func (c *core) rowIn(ctx context.Context, q queryer, query string, args []any, into ...any) error {
	err := q.QueryRowContext(ctx, c.dialect.rebind(query), args...).Scan(into...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return c.dialect.classify(err)
	}
	return err
}

// rows calls scan for each row.
func (c *core) rows(ctx context.Context, query string, args []any, scan func(*sql.Rows) error) error {
	return c.rowsIn(ctx, c.db, query, args, scan)
}

// rowsIn is rows in q.
func (c *core) rowsIn(ctx context.Context, q queryer, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := q.QueryContext(ctx, c.dialect.rebind(query), args...)
	if err != nil {
		return c.dialect.classify(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return c.dialect.classify(err)
		}
	}
	if err := rows.Err(); err != nil {
		return c.dialect.classify(err)
	}
	return nil
}

// transact runs do in a transaction and commits it. It retries the whole transaction where that
// helps.
func (c *core) transact(ctx context.Context, do func(queryer) error) error {
	return c.retry(ctx, func() error { return c.transactOnce(ctx, do) })
}

// transactOnce is transact without retries.
func (c *core) transactOnce(ctx context.Context, do func(queryer) error) error {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return c.dialect.classify(err)
	}
	return c.commitIn(tx, do)
}

// commitIn runs do in a transaction that has begun, and ends it.
func (c *core) commitIn(tx *sql.Tx, do func(queryer) error) error {
	defer tx.Rollback() // after a commit it does nothing
	if err := do(tx); err != nil {
		return err
	}
	return c.dialect.classify(tx.Commit())
}

// retry repeats do after a deadlock, a serialization failure or a lock timeout. These leave nothing
// behind.
func (c *core) retry(ctx context.Context, do func() error) error {
	var err error
	for attempt := range maxTransactionAttempts {
		if err = do(); !errors.Is(err, errRetry) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(1<<attempt) * 5 * time.Millisecond):
		}
	}
	return fmt.Errorf("%w: gave up after %d attempts: %w", ErrUnavailable, maxTransactionAttempts, err)
}

// nullable returns NULL for an empty text.
func nullable(text string) sql.NullString { return sql.NullString{String: text, Valid: text != ""} }

// micros returns a time as the database stores it.
func micros(t time.Time) int64 { return t.UnixMicro() }

// fromMicros is the inverse of micros.
func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
