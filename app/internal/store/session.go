package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// lockTimeout is how long a statement waits for a lock.
const lockTimeout = 5 * time.Second

// sessionSettings are the settings of PostgreSQL that the service insists on. They are not sent as
// startup parameters, which PgBouncer refuses.
type sessionSettings struct {
	statementTimeout, lockTimeout time.Duration
}

// sessionSettingNames are what a connection URI cannot set.
var sessionSettingNames = []string{
	"synchronous_commit", "statement_timeout", "lock_timeout", "max_parallel_workers_per_gather", "idle_in_transaction_session_timeout",
}

// set returns the SQL expressions that make the settings. They last until the end of the
// transaction where local is true.
func (s sessionSettings) set(local string) string {
	values := []string{
		// What is answered is on the disk, whatever the database's or the role's default is or
		// becomes: an accepted note, and the move of a key whose old version is about to stop
		// decrypting. Other settings than off stay.
		"coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on')",
		milliseconds(s.statementTimeout),
		milliseconds(s.lockTimeout),
		// What a Job or a metric counts must not take all of the server's processors from users at once.
		"'0'",
		// No transaction waits for anything but the database: one that is idle for so long belongs to a
		// process that stalls, and its locks must not hold up a rotation.
		"'5000'",
	}
	for i, name := range sessionSettingNames {
		values[i] = fmt.Sprintf("set_config('%s', %s, %s)", name, values[i], local)
	}
	return strings.Join(values, ", ")
}

func milliseconds(d time.Duration) string { return fmt.Sprintf("'%d'", d.Milliseconds()) }

// apply makes the settings for a new connection, unless it is to a pooler, which apply reports: the
// process that answers is not the one that the connection was told of. A pooler may have other
// clients use the same server connection, so that there a setting must end with its transaction.
func (s sessionSettings) apply(ctx context.Context, conn *pgconn.PgConn) (pooled bool, err error) {
	told := strconv.FormatUint(uint64(conn.PID()), 10)
	results, err := conn.Exec(ctx, "SELECT pg_backend_pid(), "+s.set("pg_backend_pid() <> "+told)).ReadAll()
	if err != nil {
		return false, err
	}
	return string(results[0].Rows[0][0]) != told, nil
}

// begin returns the statements that begin a transaction behind a pooler. What another client has
// set for its session counts for nothing. The last column of the last result is
// transaction_read_only.
func (s sessionSettings) begin() string {
	return "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL search_path TO DEFAULT; SET LOCAL synchronous_commit TO DEFAULT; " +
		"SELECT " + s.set("true") + ", current_setting('transaction_read_only')"
}
