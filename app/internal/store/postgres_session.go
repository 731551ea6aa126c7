package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// sessionSettings are the settings of PostgreSQL that the service requires. They are not sent as
// startup parameters, which PgBouncer rejects.
type sessionSettings struct {
	statementTimeout, lockTimeout time.Duration
}

// sessionSettingNames are the settings that a connection URI cannot override.
var sessionSettingNames = []string{
	"synchronous_commit", "statement_timeout", "lock_timeout", "max_parallel_workers_per_gather", "idle_in_transaction_session_timeout",
}

// set returns the SQL expressions that make the settings. If the SQL expression local is true they
// last until the end of the transaction.
func (s sessionSettings) set(local string) string {
	values := []string{
		// An acknowledged write must be on disk, whatever the default of the database or the role
		// is: an accepted note, and the move of a key whose old version will soon stop decrypting.
		// Every setting other than off stays.
		"coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on')",
		milliseconds(s.statementTimeout),
		milliseconds(s.lockTimeout),
		// The counts of a Job or a metric must not take all of the server's processors from users.
		"'0'",
		// A transaction waits only for the database. One that is idle for this long belongs to a
		// stalled process, and its locks must not block a rotation.
		"'5000'",
	}
	for i, name := range sessionSettingNames {
		values[i] = fmt.Sprintf("set_config('%s', %s, %s)", name, values[i], local)
	}
	return strings.Join(values, ", ")
}

// milliseconds returns a duration as the text of a setting.
func milliseconds(d time.Duration) string { return fmt.Sprintf("'%d'", d.Milliseconds()) }

// apply makes the settings for a new connection, and reports whether the connection leads to a
// pooler: then the server process that answers is not the one that the connection was told. Behind
// a pooler other clients may use the same server connection, so there the settings end with the
// transaction.
func (s sessionSettings) apply(ctx context.Context, conn *pgconn.PgConn) (pooled bool, err error) {
	told := strconv.FormatUint(uint64(conn.PID()), 10)
	results, err := conn.Exec(ctx, "SELECT pg_backend_pid(), "+s.set("pg_backend_pid() <> "+told)).ReadAll()
	if err != nil {
		return false, err
	}
	return string(results[0].Rows[0][0]) != told, nil
}

// begin returns the statements that begin a transaction behind a pooler. They override what another
// client has set for its session. The last column of the last result is transaction_read_only.
func (s sessionSettings) begin() string {
	return "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO DEFAULT; SET LOCAL synchronous_commit TO DEFAULT; " +
		"SELECT " + s.set("true") + ", current_setting('transaction_read_only')"
}

// beginReading is begin for a transaction that reads one state of the database. None of its
// statements takes the transaction's snapshot; see postgresStore.lockTables. The results are
// settings that are on if the server takes no writes.
func (s sessionSettings) beginReading() string {
	return "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path TO DEFAULT; " +
		"SET LOCAL statement_timeout = " + milliseconds(s.statementTimeout) + "; SET LOCAL lock_timeout = " + milliseconds(s.lockTimeout) + "; " +
		"SET LOCAL max_parallel_workers_per_gather = 0; SHOW in_hot_standby; SHOW default_transaction_read_only"
}
