// Package config is the one thing that the operator and the notes service share: the typed
// configuration file, and the names and formats of what the operator leaves in Vault for the
// service. The operator renders these types into a ConfigMap; the service reads them back, so a
// field cannot mean one thing on one side and another on the other.
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

// APIVersion and Kind identify the file, so that a file for another program, or for a later
// incompatible format, is refused rather than misread.
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

	// Deployment says whose data this is; it is part of what every key and value is bound to.
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
	// TrustedProxies are the addresses or networks (CIDR) whose word for a client's address is
	// believed, in X-Forwarded-For or in the PROXY protocol. Empty: nobody's.
	TrustedProxies []string  `json:"trustedProxies,omitempty"`
	CORS           CORS      `json:"cors,omitzero"`
	Log            LogConfig `json:"log,omitzero"`

	// Claimed reports whether ClaimedFile was there: then a database without this deployment's data
	// is a lost one, and nothing is made in its place.
	Claimed bool `json:"-"`
}

// Deployment identifies one set of notes.
type Deployment struct {
	// ID is fixed for the life of the master key: the UID of the SecureNotes object that first
	// owned it. At most 64 characters.
	ID string `json:"id"`
	// Namespace and Name are of the SecureNotes object, for messages and for the database's own
	// record of whom it belongs to.
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
}

// TLS names PEM files; they are read again when they change.
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
	// VaultCredentials, where it is set, gives user and password; the URI has neither then.
	VaultCredentials *VaultCredentials `json:"vaultCredentials,omitempty"`
	// MaxConnections bounds the pool of one process, 6 to 1000. 0: 16.
	MaxConnections int `json:"maxConnections,omitempty"`
}

// VaultCredentials are made by Vault's database secrets engine, for each process its own and for a limited time.
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

// Vault says where the master key lives and how to log in.
type Vault struct {
	// Address is an https URL.
	Address string `json:"address"`
	// CAFile holds the PEM certificates that Vault's certificate must chain to. Empty: the system's.
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
	// KVMount and KVPath name the KV version 2 directory with the session keys and the pepper.
	KVMount string `json:"kvMount"`
	KVPath  string `json:"kvPath"`
	// SessionKeys names the entry of that directory with the session keys, which is another one after
	// they were replaced. Empty: session-keys. The default is not written out, so that the file of a
	// deployment whose keys were never replaced, and with it its pods, stays as it is.
	SessionKeys string `json:"sessionKeys,omitempty"`
	// SessionKeysDigest is the [SessionKeys.Digest] that the entry must have. Empty: it was not
	// recorded.
	SessionKeysDigest string `json:"sessionKeysDigest,omitempty"`
	// Pepper names the entry of that directory with the pepper. Empty: pepper.
	Pepper string `json:"pepper,omitempty"`
	// PepperDigest is the [Pepper.Digest] that the entry must have. Empty: it was not recorded.
	PepperDigest string `json:"pepperDigest,omitempty"`
}

// SessionKeysEntry is the entry of the KV directory with the session keys.
func (v *Vault) SessionKeysEntry() string {
	if v.SessionKeys == "" {
		return SessionKeysLeaf
	}
	return v.SessionKeys
}

// PepperEntry is the entry of the KV directory with the pepper.
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
	// RequestsPerMinute is how many requests one user, or one address that is not signed in, may make
	// at each replica, 1 to 1000000. 0: 1200.
	RequestsPerMinute int `json:"requestsPerMinute,omitempty"`
	// RegistrationsPerDay is how many accounts may be created from one network over all replicas, 1 to
	// 1000000. 0: 500.
	RegistrationsPerDay int `json:"registrationsPerDay,omitempty"`
	// Failures are counted in the database, or in at most one of these. Memory is for a single process.
	Memory *Memory `json:"memory,omitempty"`
	Redis  *Redis  `json:"redis,omitempty"`
}

// Memory counts in the process itself.
type Memory struct{}

// Redis names the files of a connection to Redis, or to what speaks its protocol. The URI is in a file
// because it may hold a password; it must be rediss://, TLS with the server's certificate verified.
type Redis struct {
	URIFile string `json:"uriFile"`
	// CAFile holds the PEM certificates that the server's certificate must chain to. Empty: the system's.
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

// Load reads and validates the file, and looks for ClaimedFile beside it. Unknown and duplicate
// fields are errors: a setting that is misspelt must not be silently without effect.
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

// Validate reports every wrong field at once, each by its path.
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
	switch c.Log.Level {
	case "debug", "info", "warn", "error":
	default:
		bad("log.level", "must be debug, info, warn or error, not %q", c.Log.Level)
	}
	return errors.Join(errs...)
}
