package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/securenotes/securenotes/app/config"
)

// maxURISize bounds the connection URI, in bytes.
const maxURISize = 4096

// postgresSettings reads the connection URI and the CA. It insists on TLS with the server's name
// verified, whatever sslmode the URI asks for. A weaker mode, or pgx's plain-text fallback, would
// send the password to anyone who answers.
func postgresSettings(c config.Postgres) (*pgx.ConnConfig, error) {
	settings, err := parseURI(c)
	if err != nil {
		return nil, err
	}
	roots, err := trustedRoots(c, settings)
	if err != nil {
		return nil, err
	}
	if err := verifyServers(settings, roots); err != nil {
		return nil, fmt.Errorf("%w: %s %w", ErrInvalidURI, c.URIFile, err)
	}
	settings.ConnectTimeout = 5 * time.Second
	// A server that takes no writes may be a previous primary, whose data about sessions is stale.
	settings.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	for _, name := range sessionSettingNames {
		delete(settings.RuntimeParams, name)
	}
	return settings, nil
}

// parseURI reads and parses the file with the connection URI.
func parseURI(c config.Postgres) (*pgx.ConnConfig, error) {
	raw, err := readSecret(c.URIFile, "file")
	if err != nil {
		return nil, err
	}
	uri := strings.TrimSpace(string(raw))
	if uri == "" || len(uri) > maxURISize {
		return nil, fmt.Errorf("%w: %s must hold 1 to %d bytes", ErrInvalidURI, c.URIFile, maxURISize)
	}
	settings, err := pgx.ParseConfig(uri)
	if err != nil {
		// pgx's error quotes the URI, without the password as far as pgx can tell. Ours quotes
		// nothing.
		return nil, fmt.Errorf("%w: %s is not a PostgreSQL connection URI such as postgres://USER:PASSWORD@HOST:5432/DATABASE", ErrInvalidURI, c.URIFile)
	}
	if c.VaultCredentials != nil && mayContainLogin(uri) {
		return nil, fmt.Errorf("%w: %s must be a URI without user and password, such as postgres://HOST:5432/DATABASE, because Vault gives both", ErrInvalidURI, c.URIFile)
	}
	return settings, nil
}

// readSecret reads a file of a mounted Secret. kind is what to call the file if it does not exist.
func readSecret(path, kind string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: there is no %s %s", ErrSecretMissing, kind, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSecretMissing, err)
	}
	return content, nil
}

// trustedRoots returns the CA that the server's certificate must be from: that of the
// configuration, that of the URI, or nil for those of the system.
func trustedRoots(c config.Postgres, settings *pgx.ConnConfig) (*x509.CertPool, error) {
	if c.CAFile == "" {
		if settings.TLSConfig == nil {
			return nil, nil
		}
		return settings.TLSConfig.RootCAs, nil
	}
	ca, err := readSecret(c.CAFile, "CA file")
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%w: %s holds no PEM certificate", ErrInvalidURI, c.CAFile)
	}
	return pool, nil
}

// verifyServers makes every host of the settings one that is verified, and removes the plain-text
// ones.
func verifyServers(settings *pgx.ConnConfig, roots *x509.CertPool) error {
	verified := func(host string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots}
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
			return errors.New("must name a host: sockets have no TLS")
		}
	}
	settings.Fallbacks = fallbacks
	return nil
}

// mayContainLogin reports whether a URI contains a user or a password, or has a form in which that
// cannot be ruled out.
func mayContainLogin(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User != nil {
		return true
	}
	query := u.Query()
	return query.Has("user") || query.Has("password") || query.Has("passfile") || query.Has("service") || query.Has("servicefile")
}
