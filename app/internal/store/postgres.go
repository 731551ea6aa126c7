package store

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// maxURISize bounds the connection URI, in bytes.
const maxURISize = 4096

func openPostgres(ctx context.Context, c config.Postgres, logins Logins, statementTimeout time.Duration) (*Store, error) {
	settings, err := postgresSettings(c)
	if err != nil {
		return nil, err
	}
	pool := func(size int, application string, lockTimeout time.Duration) *sql.DB {
		return postgresPool(postgresConnector{
			logins: logins, session: sessionSettings{statementTimeout: statementTimeout, lockTimeout: lockTimeout},
			settings: func() (*pgx.ConnConfig, error) {
				settings, err := postgresSettings(c)
				if err == nil {
					settings.RuntimeParams["application_name"] = application
				}
				return settings, err
			},
		}, size)
	}
	application := applicationName(statementTimeout)
	s := newStore(pool(c.MaxConnections-createBatches.Parallel-backgrounds, application, lockTimeout), postgres{
		// Many wait for each of these transactions: one that has to wait for a lock gives up, and its
		// notes are created singly.
		creates: pool(createBatches.Parallel, application, 100*time.Millisecond),
		own:     func() *sql.DB { return pool(1, backgroundApplication, lockTimeout) },
	})
	if err := s.Ping(ctx); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("PostgreSQL at %s:%d, database %q: %w", settings.Host, settings.Port, settings.Database, err)
	}
	return s, nil
}

// postgresPool keeps up to size connections to servers that take writes.
func postgresPool(connector postgresConnector, size int) *sql.DB {
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(size)
	db.SetMaxIdleConns(size)
	db.SetConnMaxLifetime(30 * time.Minute)
	return db
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
	if err == nil && c.VaultCredentials != nil && namesLogin(uri) {
		return nil, fmt.Errorf("%w: %s must be a URI without user and password, such as postgres://HOST:5432/DATABASE, because Vault gives both", ErrInvalidURI, c.URIFile)
	}
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
	// A server that takes no writes may be one that was the primary: what it says of sessions is out of date.
	settings.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
	for _, name := range sessionSettingNames {
		delete(settings.RuntimeParams, name)
	}
	return settings, nil
}

// namesLogin says whether a URI says who to log in as, or is not of the form of which that can be said.
func namesLogin(uri string) bool {
	u, err := url.Parse(uri)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.User != nil {
		return true
	}
	query := u.Query()
	return query.Has("user") || query.Has("password") || query.Has("passfile") || query.Has("service") || query.Has("servicefile")
}

// postgres is the dialect, the pool of joined creations, and what makes one for Background, which has neither.
type postgres struct {
	creates *sql.DB
	own     func() *sql.DB
}

func (p postgres) close() error {
	if p.creates == nil {
		return nil
	}
	return p.creates.Close()
}

func (p postgres) background(*Store) *Store { return newStore(p.own(), postgres{}) }

func (postgres) ping(ctx context.Context, s *Store) error {
	var readOnly string
	err := s.row(ctx, "SELECT current_setting('transaction_read_only')", nil, &readOnly)
	if err == nil && readOnly != "off" {
		err = fmt.Errorf("%w: it is read-only", ErrUnavailable)
	}
	return err
}

// insertUser is one statement, so that no process that stalls between two of them holds the fence, which the
// key's trigger locks, and with it a rotation.
func (postgres) insertUser(ctx context.Context, s *Store, user accounts.User, key envelope.StoredKey, version int) error {
	_, err := s.execIn(ctx, s.db, `WITH account AS (
			INSERT INTO users (id, username, password_hash, pepper_id, created_at) VALUES ($1, $2, $3, $4, $5) RETURNING id, created_at
		) INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		SELECT id, $6, $7, $7, $8, 'active', created_at FROM account`,
		user.ID, user.Username, user.PasswordHash, user.PepperID, micros(user.CreatedAt), key.ID, version, string(key.Wrapped))
	return err
}

// insertNotes needs one statement for all, and the plain one, which costs less, for one. Owners are in order, so that two such statements do not wait for
// each other's foreign keys in a circle.
func (p postgres) insertNotes(ctx context.Context, s *Store, list []creation) (map[string]bool, error) {
	n := len(list)
	if n == 1 {
		err := s.createNoteIn(ctx, p.creates, list[0].id, list[0].now, list[0].note)
		if errors.Is(err, envelope.ErrKeyNotActive) {
			return nil, nil
		}
		return map[string]bool{list[0].note.ID: true}, err
	}
	owners, sessionIDs, ids, keys := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	contents, titles, tags := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	created, now := make([]int64, n), make([]int64, n)
	for i, c := range list {
		owners[i], sessionIDs[i], ids[i], keys[i] = c.id.Owner, c.id.Session, c.note.ID, c.note.KeyID
		contents[i], titles[i], tags[i] = c.note.Content, c.note.Title, c.note.Tags
		created[i], now[i] = micros(c.note.CreatedAt), micros(c.now)
	}
	rows, err := p.creates.QueryContext(ctx, `INSERT INTO notes (owner, id, key_id, revision, content, title, tags, created_at, updated_at)
		SELECT k.owner, b.id, k.id, 1, b.content, b.title, b.tags, b.created_at, b.created_at
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bigint[], $9::bigint[])
			AS b (owner, session, id, key_id, content, title, tags, created_at, now)
		JOIN sessions s ON s.owner = b.owner AND s.id = b.session AND s.expires_at > b.now
		JOIN owner_keys k ON k.owner = b.owner AND k.id = b.key_id AND k.state = 'active'
		ORDER BY b.owner, b.id RETURNING id`, owners, sessionIDs, ids, keys, contents, titles, tags, created, now)
	if err != nil {
		return nil, p.classify(err)
	}
	defer rows.Close()
	stored := make(map[string]bool, n)
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, p.classify(err)
		}
		stored[id] = true
	}
	return stored, p.classify(rows.Err())
}

func (p postgres) selectNotes(ctx context.Context, s *Store, list []reading) ([]batch.Result[readNote], error) {
	n := len(list)
	owners, sessionIDs, ids, now := make([]string, n), make([]string, n), make([]string, n), make([]int64, n)
	results := make([]batch.Result[readNote], n)
	for i, r := range list {
		owners[i], sessionIDs[i], ids[i], now[i] = r.id.Owner, r.id.Session, r.note, micros(r.now)
		results[i].Err = sessions.ErrInvalid // a session that has ended has no row
	}
	err := s.rows(ctx, s.db, `SELECT r.place, `+noteColumns+`
		FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[]) WITH ORDINALITY AS r (owner, session, note, now, place)
		JOIN sessions s ON s.owner = r.owner AND s.id = r.session AND s.expires_at > r.now
		LEFT JOIN notes n ON n.owner = s.owner AND n.id = r.note
		LEFT JOIN owner_keys k ON k.owner = n.owner AND k.id = n.key_id`,
		[]any{owners, sessionIDs, ids, now}, func(rows *sql.Rows) error {
			var place int
			var row noteRow
			if err := rows.Scan(append([]any{&place}, row.into()...)...); err != nil {
				return err
			}
			results[place-1] = row.result(list[place-1])
			return nil
		})
	return results, err
}

func (postgres) rebind(query string) string { return query }

func (postgres) oneOf(column string, values []string) (condition string, parameter any) {
	return column + " = ANY($1::uuid[])", values
}

func (postgres) lockShared() string    { return " FOR SHARE" }
func (postgres) lockExclusive() string { return " FOR UPDATE" }
func (postgres) migrations() string    { return "migrations/postgres" }

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
	if errors.Is(err, errNoLogin) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
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
	cause := withAdvice(server)
	switch server.Code {
	case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
		return fmt.Errorf("%w: %w", errRetry, cause)
	case fencedState:
		return fmt.Errorf("%w: %w", accounts.ErrFenced, cause)
	case "42P01": // undefined_table
		return fmt.Errorf("%w: %w", errNoTable, cause)
	case "42501": // insufficient_privilege
		return fmt.Errorf("%w: %w", ErrPermission, cause)
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
	if isLoginRefusal(server) {
		return fmt.Errorf("%w: %w", ErrAuthentication, cause)
	}
	switch server.Code[:2] {
	case "08", "3D", "53": // connection, database name, resources
		return fmt.Errorf("%w: %w", ErrRefused, cause)
	case "57", "25": // operator intervention, read-only
		return fmt.Errorf("%w: %w", ErrUnavailable, cause)
	case "42": // undefined column
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
