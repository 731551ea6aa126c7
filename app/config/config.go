// Package config is the contract between the operator and the notes service. It has the
// configuration file ([Config]), the names and formats of what the operator writes to Vault, the
// container's ports, files and arguments, and the exit codes and reasons of the subcommands. The
// operator renders all of it, and the service parses it with the same types and constants.
package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/yaml"
)

// APIVersion and Kind identify the file. A file for another program, or in an incompatible later
// format, is rejected.
const (
	APIVersion = "config.securenotes.dev/v1alpha1"
	Kind       = "Config"
)

// maxFileSize bounds the configuration file, in bytes.
const maxFileSize = 1 << 20

// Config configures every subcommand of securenotes that talks to a database or to a key provider.
type Config struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// Deployment says whose data this is. Every key and every value is bound to its ID.
	Deployment Deployment `json:"deployment"`
	// Listen is the address of the HTTPS API, host:port. Empty host: all interfaces.
	Listen string `json:"listen,omitempty"`
	// MetricsListen is the address of probes and metrics, plain HTTP, host:port.
	MetricsListen string   `json:"metricsListen,omitempty"`
	TLS           *TLS     `json:"tls,omitempty"`
	Database      Database `json:"database"`
	Keys          Keys     `json:"keys"`
	Auth          Auth     `json:"auth"`
	// RateLimits bound failed logins, registrations and requests.
	RateLimits RateLimits `json:"rateLimits,omitzero"`
	// Quotas bound what is stored.
	Quotas Quotas `json:"quotas,omitzero"`
	// TrustedProxies are the addresses or networks (CIDR) that may set the client's address, by
	// X-Forwarded-For or by the PROXY protocol. Empty: none may.
	TrustedProxies []string  `json:"trustedProxies,omitempty"`
	CORS           CORS      `json:"cors,omitzero"`
	Log            LogConfig `json:"log,omitzero"`
	// Backup is for the subcommands backup and restore.
	Backup *Backup `json:"backup,omitempty"`

	// Claimed reports whether ClaimedFile exists. If it does, a database without this deployment's
	// data has lost it, and nothing is created in its place.
	Claimed bool `json:"-"`
}

// Deployment identifies one set of notes.
type Deployment struct {
	// ID is fixed for the life of the master key: the UID of the SecureNotes object that first
	// owned it. At most 64 characters.
	ID string `json:"id"`
	// Namespace and Name identify the SecureNotes object. Messages show them, and the database
	// records them as its owner.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// TLS names PEM files. The service reads them again when they change.
type TLS struct {
	CertFile string `json:"certFile"`
	KeyFile  string `json:"keyFile"`
}

// Database is exactly one of Postgres and SQLite.
type Database struct {
	Postgres *Postgres `json:"postgres,omitempty"`
	SQLite   *SQLite   `json:"sqlite,omitempty"`
}

// Postgres names the files of a PostgreSQL connection. The URI is in a file because it may hold a
// password. The server's certificate is always verified, host name included.
type Postgres struct {
	URIFile string `json:"uriFile"`
	// CAFile holds the PEM certificates that the server's certificate must chain to. Empty: the
	// system's.
	CAFile string `json:"caFile,omitempty"`
	// VaultCredentials, if set, are the source of user and password. The URI has neither then.
	VaultCredentials *VaultCredentials `json:"vaultCredentials,omitempty"`
	// MaxConnections bounds the pool of one process, 6 to 1000. 0: 16.
	MaxConnections int `json:"maxConnections,omitempty"`
}

// VaultCredentials are created by Vault's database secrets engine, separately for each process and
// for a limited time.
type VaultCredentials struct {
	// Mount of the engine, without slashes around it.
	Mount string `json:"mount"`
	// Role of the engine.
	Role string `json:"role"`
}

// SQLite names the database file. Its directory must be on a local file system.
type SQLite struct {
	Path string `json:"path"`
}

// Keys is exactly one of Vault and Local.
type Keys struct {
	Vault *Vault `json:"vault,omitempty"`
	Local *Local `json:"local,omitempty"`
}

// Vault says where the master key is and how to log in.
type Vault struct {
	// Address is an https URL.
	Address string `json:"address"`
	// CAFile holds the PEM certificates that Vault's certificate must chain to. Empty: the
	// system's.
	CAFile string `json:"caFile,omitempty"`
	// Namespace is a Vault Enterprise namespace. Empty: none.
	Namespace string `json:"namespace,omitempty"`
	// AuthMount is the mount of the Kubernetes auth method, without slashes around it.
	AuthMount string `json:"authMount"`
	// Role is the role to log in as.
	Role string `json:"role"`
	// TokenFile is the projected service-account token.
	TokenFile string `json:"tokenFile"`
	// TransitMount and TransitKey name the master key.
	TransitMount string `json:"transitMount"`
	TransitKey   string `json:"transitKey"`
	// AuditKey names the Transit key, Ed25519, that signs audit checkpoints. Only serving needs it.
	AuditKey string `json:"auditKey,omitempty"`
	// BackupKey names the Transit key, Ed25519, that signs backups. Only backup and restore need
	// it.
	BackupKey string `json:"backupKey,omitempty"`
	// KVMount and KVPath name the KV version 2 directory with the session keys and the pepper.
	KVMount string `json:"kvMount"`
	KVPath  string `json:"kvPath"`
	// SessionKeys names the entry of that directory with the session keys. It changes when they are
	// replaced. Empty: session-keys. The default is not written to the file, so that an upgrade of
	// the operator restarts no pod.
	SessionKeys string `json:"sessionKeys,omitempty"`
	// SessionKeysDigest is the [SessionKeys.Digest] that the entry must have. Empty: it was not
	// recorded.
	SessionKeysDigest string `json:"sessionKeysDigest,omitempty"`
	// Pepper names the entry of that directory with the pepper. Empty: pepper.
	Pepper string `json:"pepper,omitempty"`
	// PepperDigest is the [Pepper.Digest] that the entry must have. Empty: it was not recorded.
	PepperDigest string `json:"pepperDigest,omitempty"`
}

// SessionKeysEntry returns the entry of the KV directory with the session keys.
func (v *Vault) SessionKeysEntry() string {
	if v.SessionKeys == "" {
		return SessionKeysLeaf
	}
	return v.SessionKeys
}

// PepperEntry returns the entry of the KV directory with the pepper.
func (v *Vault) PepperEntry() string { return cmp.Or(v.Pepper, PepperLeaf) }

// Local is a key file, for development only.
type Local struct {
	File string `json:"file"`
}

// RegistrationMode says who may create an account.
type RegistrationMode string

// The registration modes.
const (
	RegistrationOpen   RegistrationMode = "Open"
	RegistrationClosed RegistrationMode = "Closed"
)

// Auth configures accounts and sessions.
type Auth struct {
	Registration RegistrationMode `json:"registration"`
	// TokenTTL is how long a session lasts, 5m to 720h.
	TokenTTL Duration `json:"tokenTTL"`
	// BcryptCost is 12 to 16.
	BcryptCost int `json:"bcryptCost"`
	// MinPasswordLength is 8 to 64 characters.
	MinPasswordLength int `json:"minPasswordLength"`
}

// Quotas bound what is stored.
type Quotas struct {
	// Accounts is how many accounts the service may have, 1 to 10000000. 0: 100000.
	Accounts int64 `json:"accounts,omitempty"`
	// Notes is how many notes one user may have, 1 to 10000000. 0: 100000.
	Notes int64 `json:"notes,omitempty"`
	// Bytes is how many bytes the notes of one user may take, sealed, 1 MiB to 1 TiB. 0: 512 MiB.
	Bytes int64 `json:"bytes,omitempty"`
}

// RateLimits bound failed logins, registrations and requests.
type RateLimits struct {
	// FailedLoginsPerMinute is how many failed logins one address may have over all replicas, 1 to
	// 1000; a username may have six times as many. 0: 5.
	FailedLoginsPerMinute int `json:"failedLoginsPerMinute,omitempty"`
	// RequestsPerMinute is how many requests one user, or one address that is not signed in, may
	// make at each replica, 1 to 1000000. 0: 1200.
	RequestsPerMinute int `json:"requestsPerMinute,omitempty"`
	// RegistrationsPerDay is how many accounts may be created from one network over all replicas, 1
	// to
	// 1000000. 0: 500.
	RegistrationsPerDay int `json:"registrationsPerDay,omitempty"`
	// Failures are counted in the database, or in at most one of these. Memory is for a single
	// process.
	Memory *Memory `json:"memory,omitempty"`
	Redis  *Redis  `json:"redis,omitempty"`
}

// Memory counts in the process itself.
type Memory struct{}

// Redis names the files of a connection to Redis or to a server with its protocol. The URI is in a
// file because it may hold a password. It must begin with rediss://, and the server's certificate
// is verified.
type Redis struct {
	URIFile string `json:"uriFile"`
	// CAFile holds the PEM certificates that the server's certificate must chain to. Empty: the
	// system's.
	CAFile string `json:"caFile,omitempty"`
}

// CORS says which web pages may call the API.
type CORS struct {
	// AllowedOrigins are https origins such as https://app.example.com. Empty: none.
	AllowedOrigins []string `json:"allowedOrigins,omitempty"`
}

// LogConfig configures the process log.
type LogConfig struct {
	// Level is debug, info, warn or error. Empty: info.
	Level string `json:"level,omitempty"`
}

// Duration is a time.Duration that reads and writes Go's notation, such as "15m".
type Duration time.Duration

// MarshalText writes Go's notation.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads Go's notation.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a duration such as 15m or 24h", text)
	}
	*d = Duration(v)
	return nil
}

// Load reads and validates the file, and looks for ClaimedFile in the same directory. Unknown and
// duplicate fields are errors, so that a misspelt setting does not go unnoticed.
func Load(path string) (*Config, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFileSize+1))
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if len(raw) > maxFileSize {
		return nil, fmt.Errorf("configuration %s: larger than %d bytes", path, maxFileSize)
	}
	c, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	switch _, err := os.Stat(filepath.Join(filepath.Dir(path), ClaimedFile)); {
	case err == nil:
		c.Claimed = true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and validates one document.
func Parse(raw []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.UnmarshalStrict(raw, c); err != nil {
		return nil, err
	}
	if err := c.Complete(); err != nil {
		return nil, err
	}
	return c, nil
}

// Complete sets the defaults of fields that are unset, and validates.
func (c *Config) Complete() error {
	c.setDefaults()
	return c.Validate()
}

// Marshal validates c and writes it as YAML. Equal configurations give equal bytes.
func Marshal(c *Config) ([]byte, error) {
	full := *c
	full.APIVersion, full.Kind = APIVersion, Kind
	if err := full.Complete(); err != nil {
		return nil, err
	}
	full.omitDefaults()
	out, err := yaml.Marshal(&full)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSpace(out), nil
}

// Validate returns an error that names the path of every invalid field.
func (c *Config) Validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	need := func(field, value string) {
		if value == "" {
			bad(field, "is required")
		}
	}
	if c.APIVersion != APIVersion || c.Kind != Kind {
		bad("apiVersion, kind", "must be %s and %s", APIVersion, Kind)
	}
	need("deployment.id", c.Deployment.ID)
	if len(c.Deployment.ID) > 64 {
		bad("deployment.id", "must be at most 64 characters")
	}
	need("deployment.namespace", c.Deployment.Namespace)
	need("deployment.name", c.Deployment.Name)
	validateListen(bad, "listen", c.Listen)
	validateListen(bad, "metricsListen", c.MetricsListen)
	if c.TLS != nil {
		need("tls.certFile", c.TLS.CertFile)
		need("tls.keyFile", c.TLS.KeyFile)
	}
	c.Database.validate(bad, need)
	c.Keys.validate(bad, need)
	if p := c.Database.Postgres; p != nil && p.VaultCredentials != nil && c.Keys.Vault == nil {
		bad("database.postgres.vaultCredentials", "needs keys.vault")
	}
	c.Auth.validate(bad)
	c.validateAbuse(bad)
	c.Quotas.validate(bad)
	if c.Backup != nil {
		c.Backup.validate(bad, need)
		if !c.restores() || len(c.Backup.Recipients) > 0 {
			validateRecipients(bad, "backup.recipients", c.Backup.Recipients, MaxRecipients)
		}
	}
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level", "must be debug, info, warn or error, not %q", c.Log.Level)
	}
	return errors.Join(errs...)
}
