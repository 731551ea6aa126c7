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

// errNoLogin means that nobody says who to log in as.
var errNoLogin = errors.New("no database login")

// postgresConnector makes the connections of a pool.
type postgresConnector struct {
	// settings are read for each connection, because the Secrets that hold the URI and the CA may have
	// changed.
	settings func() (*pgx.ConnConfig, error)
	// logins says who to log in as; nil: the settings do.
	logins  Logins
	session sessionSettings
}

// Driver implements driver.Connector.
func (postgresConnector) Driver() driver.Driver { return stdlib.GetDefaultDriver() }

// Connect implements driver.Connector. It logs in as whom it is at the moment, and as the next one where the server
// refuses that one: it may have been revoked since.
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
	return &pooledConn{conn: conn.(*stdlib.Conn), begin: c.session.begin()}, nil
}

// reusable ends a connection to a server that takes no more writes, and one whose login is no longer the one of now:
// it will be revoked.
func (c postgresConnector) reusable(ctx context.Context, conn *pgx.Conn, as string, pooled bool) error {
	// The server reports both with its answers (PostgreSQL 14 and later). A pooler may report what
	// was true of another server connection; each transaction asks instead.
	if !pooled && (conn.PgConn().ParameterStatus("in_hot_standby") == "on" || conn.PgConn().ParameterStatus("default_transaction_read_only") == "on") {
		return driver.ErrBadConn
	}
	if c.logins != nil && c.logins.Replaced(ctx, as) {
		return driver.ErrBadConn
	}
	return nil
}

// refusesLogin reports whether the server, or a pooler, refuses the user or the password.
func refusesLogin(err error) bool {
	var server *pgconn.PgError
	return errors.As(err, &server) && isLoginRefusal(server)
}

// isLoginRefusal also knows PgBouncer, which answers 08P01 to most.
func isLoginRefusal(server *pgconn.PgError) bool {
	return server.Code[:2] == "28" || server.Code == "08P01" &&
		(strings.Contains(server.Message, "authentication failed") || strings.Contains(server.Message, "no such user"))
}
