package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// rollbackTimeout bounds a rollback, which has no context of its own.
const rollbackTimeout = 5 * time.Second

// pooledConn is a connection to a pooler that may run each transaction on another server
// connection, as PgBouncer does in transaction pooling. It prepares no statements and leaves no
// settings behind: every transaction, even of a single statement, begins by making the settings.
type pooledConn struct {
	conn *stdlib.Conn
	// begin and beginReading are the results of sessionSettings.begin and beginReading.
	begin, beginReading string
	// open is true while a transaction of BeginTx is open.
	open bool
}

var (
	_ driver.ExecerContext     = (*pooledConn)(nil)
	_ driver.QueryerContext    = (*pooledConn)(nil)
	_ driver.ConnBeginTx       = (*pooledConn)(nil)
	_ driver.SessionResetter   = (*pooledConn)(nil)
	_ driver.Validator         = (*pooledConn)(nil)
	_ driver.NamedValueChecker = (*pooledConn)(nil)
)

// Prepare implements driver.Conn.
func (*pooledConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("a pooled connection prepares no statements")
}

// Close implements driver.Conn.
func (c *pooledConn) Close() error { return c.conn.Close() }

// ResetSession implements driver.SessionResetter.
func (c *pooledConn) ResetSession(ctx context.Context) error { return c.conn.ResetSession(ctx) }

// IsValid implements driver.Validator.
func (c *pooledConn) IsValid() bool { return !c.conn.Conn().IsClosed() }

// CheckNamedValue implements driver.NamedValueChecker.
func (c *pooledConn) CheckNamedValue(value *driver.NamedValue) error {
	return c.conn.CheckNamedValue(value)
}

// Begin implements driver.Conn.
func (c *pooledConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx implements driver.ConnBeginTx.
func (c *pooledConn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	isolation := sql.IsolationLevel(options.Isolation)
	begin := c.begin
	switch {
	case options.ReadOnly && isolation == sql.LevelRepeatableRead:
		begin = c.beginReading
	case options.ReadOnly || isolation != sql.LevelDefault && isolation != sql.LevelReadCommitted:
		return nil, fmt.Errorf("a pooled connection has no transactions of isolation %s, read-only %t", isolation, options.ReadOnly)
	}
	if err := c.start(ctx, begin); err != nil {
		return nil, err
	}
	c.open = true
	return pooledTx{ctx, c}, nil
}

// ExecContext implements driver.ExecerContext.
func (c *pooledConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if c.open || needsNoTransaction(query) {
		return c.conn.ExecContext(ctx, query, unprepared(args))
	}
	if err := c.start(ctx, c.begin); err != nil {
		return nil, err
	}
	result, err := c.conn.ExecContext(ctx, query, unprepared(args))
	if err != nil {
		c.rollback()
		return nil, err
	}
	return result, c.commit(ctx)
}

// QueryContext implements driver.QueryerContext.
func (c *pooledConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if c.open {
		return c.conn.QueryContext(ctx, query, unprepared(args))
	}
	if err := c.start(ctx, c.begin); err != nil {
		return nil, err
	}
	rows, err := c.conn.QueryContext(ctx, query, unprepared(args))
	if err != nil {
		c.rollback()
		return nil, err
	}
	return &pooledRows{Rows: rows, ctx: ctx, conn: c}, nil
}

// start begins a transaction. When it fails nothing has been done, so it may return
// driver.ErrBadConn, which makes database/sql try another connection.
func (c *pooledConn) start(ctx context.Context, begin string) error {
	results, err := c.conn.Conn().PgConn().Exec(ctx, begin).ReadAll()
	if err == nil {
		if takesWrites(results) {
			return nil
		}
		err = driver.ErrBadConn
	}
	_ = c.Close()
	server, answered := errors.AsType[*pgconn.PgError](err)
	if ctx.Err() != nil || answered && !strings.HasPrefix(server.Code, "57") {
		return err
	}
	return driver.ErrBadConn // the pooler or the server has ended the connection
}

// takesWrites reports whether the server takes writes, by the results of the statements that began
// a transaction: each last column of a row is a setting that is otherwise on.
func takesWrites(results []*pgconn.Result) bool {
	for _, result := range results {
		for _, row := range result.Rows {
			if string(row[len(row)-1]) != "off" {
				return false
			}
		}
	}
	return true
}

// commit commits a transaction. After an error it is unknown whether the transaction was committed.
func (c *pooledConn) commit(ctx context.Context) error {
	conn := c.conn.Conn().PgConn()
	results, err := conn.Exec(ctx, "COMMIT").ReadAll()
	if err == nil && results[0].CommandTag.String() != "COMMIT" {
		err = pgx.ErrTxCommitRollback
	}
	if conn.TxStatus() != 'I' {
		_ = c.Close()
	}
	return err
}

// rollback rolls a transaction back, or closes the connection, which has the same effect.
func (c *pooledConn) rollback() {
	conn := c.conn.Conn().PgConn()
	if conn.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rollbackTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, "ROLLBACK").ReadAll(); err != nil {
		_ = c.Close()
	}
}

// needsNoTransaction reports whether PostgreSQL rejects the statement in a transaction. Migrations
// build indexes with such statements.
func needsNoTransaction(query string) bool { return strings.Contains(query, " CONCURRENTLY ") }

// unprepared makes pgx describe a statement once per connection, and send its text each time
// instead of preparing it.
func unprepared(args []driver.NamedValue) []driver.NamedValue {
	return append([]driver.NamedValue{{Value: pgx.QueryExecModeCacheDescribe}}, args...)
}

// pooledTx is a transaction of BeginTx.
type pooledTx struct {
	ctx  context.Context
	conn *pooledConn
}

// Commit implements driver.Tx.
func (t pooledTx) Commit() error {
	t.conn.open = false
	return t.conn.commit(t.ctx)
}

// Rollback implements driver.Tx.
func (t pooledTx) Rollback() error {
	t.conn.open = false
	t.conn.rollback()
	return nil
}

// pooledRows are the rows of a single statement. They end only once its transaction is committed:
// when the rows of an INSERT with RETURNING end, the caller takes the row as stored.
type pooledRows struct {
	driver.Rows
	ctx   context.Context
	conn  *pooledConn
	ended bool
}

// Next implements driver.Rows.
func (r *pooledRows) Next(row []driver.Value) error {
	err := r.Rows.Next(row)
	if err == nil {
		return nil
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err = r.end(err); err != nil {
		return err
	}
	return io.EOF
}

// Close implements driver.Rows.
func (r *pooledRows) Close() error { return r.end(r.Rows.Close()) }

// end commits the transaction, or rolls it back if err is not nil.
func (r *pooledRows) end(err error) error {
	switch {
	case r.ended:
		return err
	case err != nil:
		r.conn.rollback()
	default:
		err = r.conn.commit(r.ctx)
	}
	r.ended = true
	return err
}
