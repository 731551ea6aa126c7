package store

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// errNoLogin means that Logins has no credentials.
var errNoLogin = errors.New("no database login")

// postgresConnector opens the connections of a pool.
type postgresConnector struct {
	// settings is called for each connection, because the Secrets with the URI and the CA may
	// change.
	settings func() (*pgx.ConnConfig, error)
	// logins provides the credentials. If it is nil the settings contain them.
	logins  Logins
	session sessionSettings
}

// Driver implements driver.Connector.
func (postgresConnector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// Connect implements driver.Connector. It uses the current credentials of logins. If the server
// rejects them, because they have just been revoked, it retries once with the next ones.
func (c postgresConnector) Connect(ctx context.Context) (driver.Conn, error) {
	current, err := c.settings()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if c.logins == nil {
		return c.connect(ctx, *current)
	}
	for attempt := 0; ; attempt++ {
		user, password, err := c.logins.Current(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNoLogin, err)
		}
		settings := *current
		settings.User, settings.Password = user, password
		conn, err := c.connect(ctx, settings)
		if !refusesLogin(err) {
			return conn, err
		}
		c.logins.Refused(user)
		if attempt > 0 {
			return nil, err
		}
	}
}

// connect opens one connection and makes the session's settings.
func (c postgresConnector) connect(ctx context.Context, settings pgx.ConnConfig) (driver.Conn, error) {
	pooled := false
	settings.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		pooled, err = c.session.apply(ctx, conn)
		return err
	}
	conn, err := stdlib.GetConnector(settings, stdlib.OptionResetSession(func(ctx context.Context, conn *pgx.Conn) error {
		return c.reusable(ctx, conn, settings.User, pooled)
	})).Connect(ctx)
	if err != nil || !pooled {
		return conn, err
	}
	return &pooledConn{conn: conn.(*stdlib.Conn), begin: c.session.begin(), beginReading: c.session.beginReading()}, nil
}

// reusable returns driver.ErrBadConn, which ends the connection, if the server no longer takes
// writes or if the user's credentials have been replaced and will be revoked.
func (c postgresConnector) reusable(ctx context.Context, conn *pgx.Conn, user string, pooled bool) error {
	// The server reports both settings with its answers (PostgreSQL 14 and later). A pooler may
	// report those of another server connection, so there each transaction asks instead.
	if !pooled && (conn.PgConn().ParameterStatus("in_hot_standby") == "on" || conn.PgConn().ParameterStatus("default_transaction_read_only") == "on") {
		return driver.ErrBadConn
	}
	if c.logins != nil && c.logins.Replaced(ctx, user) {
		return driver.ErrBadConn
	}
	return nil
}

// refusesLogin reports whether the server, or a pooler, rejects the user or the password.
func refusesLogin(err error) bool {
	server, ok := errors.AsType[*pgconn.PgError](err)
	return ok && isLoginRefusal(server)
}

// isLoginRefusal reports whether an answer rejects the user or the password. PgBouncer uses the
// SQLSTATE 08P01 for most of its own answers.
func isLoginRefusal(server *pgconn.PgError) bool {
	return server.Code[:2] == "28" || server.Code == "08P01" &&
		(strings.Contains(server.Message, "authentication failed") || strings.Contains(server.Message, "no such user"))
}
