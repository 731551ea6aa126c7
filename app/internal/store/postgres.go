package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/notes"
)

// maxURISize bounds the connection URI, in bytes.
const maxURISize = 4096

func openPostgres(ctx context.Context, c config.Postgres, statementTimeout time.Duration) (*Store, error) {
	settings, err := postgresSettings(c)
	if err != nil {
		return nil, err
	}
	settings.RuntimeParams["statement_timeout"] = strconv.FormatInt(statementTimeout.Milliseconds(), 10)
	db := stdlib.OpenDB(*settings)
	db.SetMaxOpenConns(c.MaxConnections)
	db.SetMaxIdleConns(c.MaxConnections)
	db.SetConnMaxLifetime(30 * time.Minute)
	s := &Store{db: db, dialect: postgres{}}
	if err := s.Ping(ctx); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("PostgreSQL at %s:%d, database %q: %w", settings.Host, settings.Port, settings.Database, err)
	}
	return s, nil
}

// postgresSettings reads the URI and insists on TLS with the server's name verified, whatever
// sslmode the URI asks for: a weaker mode, or pgx's plain-text fallback, would give the password
// to whoever answers.
func postgresSettings(c config.Postgres) (*pgx.ConnConfig, error) {
	raw, err := os.ReadFile(c.URIFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no file %s", ErrSecretMissing, c.URIFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretMissing, err)
	}
	uri := strings.TrimSpace(string(raw))
	if uri == "" || len(uri) > maxURISize {
		return nil, fmt.Errorf("%w: %s must hold 1 to %d bytes", ErrInvalidURI, c.URIFile, maxURISize)
	}
	settings, err := pgx.ParseConfig(uri)
	if err != nil {
		// pgx's own error quotes the URI, password removed as well as it can; ours quotes nothing.
		return nil, fmt.Errorf("%w: %s is not a PostgreSQL connection URI such as postgres://USER:PASSWORD@HOST:5432/DATABASE", ErrInvalidURI, c.URIFile)
	}
	var pool *x509.CertPool
	if c.CAFile != "" {
		ca, err := os.ReadFile(c.CAFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: there is no CA file %s", ErrSecretMissing, c.CAFile)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSecretMissing, err)
		}
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("%w: %s holds no PEM certificate", ErrInvalidURI, c.CAFile)
		}
	} else if settings.TLSConfig != nil {
		pool = settings.TLSConfig.RootCAs
	}
	verified := func(host string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: pool}
	}
	settings.TLSConfig = verified(settings.Host)
	hosts := []string{settings.Host}
	var fallbacks []*pgconn.FallbackConfig
	for _, f := range settings.Fallbacks {
		hosts = append(hosts, f.Host)
		if f.TLSConfig != nil {
			fallbacks = append(fallbacks, &pgconn.FallbackConfig{Host: f.Host, Port: f.Port, TLSConfig: verified(f.Host)})
		}
	}
	for _, host := range hosts {
		if host == "" || strings.HasPrefix(host, "/") {
			return nil, fmt.Errorf("%w: %s must name a host: sockets have no TLS", ErrInvalidURI, c.URIFile)
		}
	}
	settings.Fallbacks = fallbacks
	settings.ConnectTimeout = 5 * time.Second
	for name, value := range map[string]string{
		"application_name": "securenotes", "lock_timeout": "5000",
		"idle_in_transaction_session_timeout": "60000",
	} {
		settings.RuntimeParams[name] = value
	}
	return settings, nil
}

type postgres struct{}

func (postgres) rebind(query string) string { return query }
func (postgres) lockShared() string         { return " FOR SHARE" }
func (postgres) lockExclusive() string      { return " FOR UPDATE" }
func (postgres) migrations() string         { return "migrations/postgres" }

func (postgres) columnTypes() string {
	return `SELECT c.table_name, c.column_name, COALESCE(c.domain_name, c.data_type)
		FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name)
		WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE' ORDER BY 1, c.ordinal_position`
}

// fencedState is the SQLSTATE that the trigger owner_keys_fence raises.
const fencedState = "SN001"

func (postgres) classify(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return classifyState(server)
	}
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &connect), errors.As(err, &network), pgconn.SafeToRetry(err), pgconn.Timeout(err),
		errors.Is(err, context.DeadlineExceeded), strings.Contains(err.Error(), "conn closed"),
		strings.Contains(err.Error(), "unexpected EOF"), strings.Contains(err.Error(), "bad connection"):
		return fmt.Errorf("%w: %s", ErrUnavailable, innermost(err))
	}
	return err
}

// classifyState sorts by SQLSTATE (PostgreSQL documentation, appendix A). The server's detail is
// left out: it quotes values.
func classifyState(server *pgconn.PgError) error {
	cause := fmt.Errorf("%s (SQLSTATE %s)", server.Message, server.Code)
	switch server.Code {
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return fmt.Errorf("%w: %w", errRetry, cause)
	case fencedState:
		return fmt.Errorf("%w: %w", accounts.ErrFenced, cause)
	case "28000", "28P01":
		return fmt.Errorf("%w: %w", ErrAuthentication, cause)
	case "3D000": // invalid_catalog_name
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	case "23505": // unique_violation
		switch server.ConstraintName {
		case "users_username":
			return accounts.ErrUsernameTaken
		case "notes_pkey":
			return notes.ErrExists
		}
		return fmt.Errorf("%w: %w", errRetry, cause)
	case "23503": // foreign_key_violation
		return fmt.Errorf("%w: %w", errStillNeeded, cause)
	}
	switch server.Code[:2] {
	case "08", "53", "57", "25": // connection, resources, operator intervention, read-only
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	case "42": // undefined table or column
		return fmt.Errorf("%w: %w", ErrSchema, cause)
	}
	return cause
}

// innermost is the cause without the connection's settings, which wrap it.
func innermost(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}
