package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

type (
	badFunc  func(field, format string, args ...any)
	needFunc func(field, value string)
)

func validateListen(bad badFunc, field, address string) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		bad(field, "%q is not host:port", address)
	}
}

func (d *Database) validate(bad badFunc, need needFunc) {
	switch {
	case (d.Postgres == nil) == (d.SQLite == nil):
		bad("database", "needs exactly one of postgres and sqlite")
	case d.Postgres != nil:
		need("database.postgres.uriFile", d.Postgres.URIFile)
		if n := d.Postgres.MaxConnections; n < 6 || n > 1000 {
			bad("database.postgres.maxConnections", "must be 6 to 1000, not %d", n)
		}
		if v := d.Postgres.VaultCredentials; v != nil {
			validatePaths(bad, map[string]string{
				"database.postgres.vaultCredentials.mount": v.Mount, "database.postgres.vaultCredentials.role": v.Role,
			})
		}
	default:
		need("database.sqlite.path", d.SQLite.Path)
	}
}

func (k *Keys) validate(bad badFunc, need needFunc) {
	if (k.Vault == nil) == (k.Local == nil) {
		bad("keys", "needs exactly one of vault and local")
		return
	}
	if k.Local != nil {
		need("keys.local.file", k.Local.File)
		return
	}
	v := k.Vault
	if u, err := url.Parse(v.Address); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		bad("keys.vault.address", "must be an https URL without credentials")
	}
	need("keys.vault.role", v.Role)
	need("keys.vault.tokenFile", v.TokenFile)
	for field, name := range map[string]string{"keys.vault.auditKey": v.AuditKey, "keys.vault.backupKey": v.BackupKey} {
		if name != "" && !cleanPath(name) {
			bad(field, "%q must be a plain name", name)
		}
	}
	if !IsSessionKeysEntry(v.SessionKeysEntry()) {
		bad("keys.vault.sessionKeys", "%q must be %s, or that with a dash and up to 19 digits", v.SessionKeys, SessionKeysLeaf)
	}
	if !IsPepperEntry(v.PepperEntry()) {
		bad("keys.vault.pepper", "%q must be %s, or that with a dash and 16 letters or digits", v.Pepper, PepperLeaf)
	}
	for field, value := range map[string]string{
		"keys.vault.sessionKeysDigest": v.SessionKeysDigest, "keys.vault.pepperDigest": v.PepperDigest,
	} {
		if value != "" && !IsDigest(value) {
			bad(field, "%q must be a SHA-256 in 64 hex digits", value)
		}
	}
	validatePaths(bad, map[string]string{
		"keys.vault.authMount":    v.AuthMount,
		"keys.vault.transitMount": v.TransitMount,
		"keys.vault.transitKey":   v.TransitKey,
		"keys.vault.kvMount":      v.KVMount,
		"keys.vault.kvPath":       v.KVPath,
	})
}

func validatePaths(bad badFunc, paths map[string]string) {
	for field, path := range paths {
		if !cleanPath(path) {
			bad(field, "%q must be a path without a slash at either end, empty parts or dots alone", path)
		}
	}
}

// cleanPath reports whether a name addresses exactly the Vault path that it spells.
func cleanPath(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "?#%\\ \t\r\n") {
			return false
		}
	}
	return true
}

func (a *Auth) validate(bad badFunc) {
	if a.Registration != RegistrationOpen && a.Registration != RegistrationClosed {
		bad("auth.registration", "must be Open or Closed, not %q", a.Registration)
	}
	if ttl := time.Duration(a.TokenTTL); ttl < 5*time.Minute || ttl > 720*time.Hour {
		bad("auth.tokenTTL", "must be 5m to 720h, not %s", ttl)
	}
	if a.BcryptCost < MinBcryptCost || a.BcryptCost > 16 {
		bad("auth.bcryptCost", "must be %d to 16, not %d", MinBcryptCost, a.BcryptCost)
	}
	if a.MinPasswordLength < MinPasswordLength || a.MinPasswordLength > 64 {
		bad("auth.minPasswordLength", "must be %d to 64, not %d", MinPasswordLength, a.MinPasswordLength)
	}
}

// maxList bounds trustedProxies and cors.allowedOrigins.
const maxList = 64

func (c *Config) validateAbuse(bad badFunc) {
	if n := c.RateLimits.FailedLoginsPerMinute; n < 1 || n > 1000 {
		bad("rateLimits.failedLoginsPerMinute", "must be 1 to 1000, not %d", n)
	}
	if n := c.RateLimits.RequestsPerMinute; n < 1 || n > 1_000_000 {
		bad("rateLimits.requestsPerMinute", "must be 1 to 1000000, not %d", n)
	}
	if n := c.RateLimits.RegistrationsPerDay; n < 1 || n > 1_000_000 {
		bad("rateLimits.registrationsPerDay", "must be 1 to 1000000, not %d", n)
	}
	if c.RateLimits.Memory != nil && c.RateLimits.Redis != nil {
		bad("rateLimits", "needs at most one of memory and redis")
	}
	if r := c.RateLimits.Redis; r != nil && r.URIFile == "" {
		bad("rateLimits.redis.uriFile", "is required")
	}
	if len(c.TrustedProxies) > maxList {
		bad("trustedProxies", "must be at most %d", maxList)
	}
	for i, proxy := range c.TrustedProxies {
		_, errAddress := netip.ParseAddr(proxy)
		_, errNetwork := netip.ParsePrefix(proxy)
		if errAddress != nil && errNetwork != nil {
			bad(fmt.Sprintf("trustedProxies[%d]", i), "%q is neither an address nor a network such as 10.0.0.0/8", proxy)
		}
	}
	if len(c.CORS.AllowedOrigins) > maxList {
		bad("cors.allowedOrigins", "must be at most %d", maxList)
	}
	for i, origin := range c.CORS.AllowedOrigins {
		u, err := url.Parse(origin)
		if err != nil || u.Scheme != "https" || u.Host == "" || origin != u.Scheme+"://"+u.Host {
			bad(fmt.Sprintf("cors.allowedOrigins[%d]", i), "%q is not an origin such as https://app.example.com", origin)
		}
	}
}

func (q *Quotas) validate(bad badFunc) {
	if q.Accounts < 1 || q.Accounts > 10_000_000 {
		bad("quotas.accounts", "must be 1 to 10000000, not %d", q.Accounts)
	}
	if q.Notes < 1 || q.Notes > 10_000_000 {
		bad("quotas.notes", "must be 1 to 10000000, not %d", q.Notes)
	}
	if q.Bytes < 1<<20 || q.Bytes > 1<<40 {
		bad("quotas.bytes", "must be 1048576 (1Mi) to 1099511627776 (1Ti), not %d", q.Bytes)
	}
}
