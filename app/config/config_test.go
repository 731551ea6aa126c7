package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func valid() *Config {
	return &Config{
		APIVersion: APIVersion, Kind: Kind,
		Deployment: Deployment{ID: "uid", Namespace: "ns", Name: "notes"},
		TLS:        &TLS{CertFile: "/tls.crt", KeyFile: "/tls.key"},
		Database:   Database{Postgres: &Postgres{URIFile: "/uri"}},
		Keys: Keys{Vault: &Vault{
			Address: "https://vault:8200", AuthMount: "kubernetes", Role: RoleAPI, TokenFile: "/token",
			TransitMount: "transit", TransitKey: TransitKeyName("c", "ns", "notes"), KVMount: "secret", KVPath: KVPath("c", "ns", "notes"),
		}},
		Auth: Auth{Registration: RegistrationOpen, TokenTTL: Duration(24 * time.Hour), BcryptCost: 12, MinPasswordLength: 8},
	}
}

func TestMarshalledConfigurationIsReadBack(t *testing.T) {
	raw, err := Marshal(valid())
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := valid()
	want.setDefaults()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestClaimedFile checks that Claimed follows the file in the directory, and that Marshal does not
// write it.
func TestClaimedFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "api.yaml")
	c := valid()
	c.Claimed = true
	raw, err := Marshal(c)
	if err == nil {
		err = os.WriteFile(file, raw, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Load(file); err != nil || got.Claimed {
		t.Errorf("without the file: %v, claimed %t", err, got.Claimed)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(file), ClaimedFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Load(file); err != nil || !got.Claimed {
		t.Errorf("with the file: %v, claimed %t", err, got.Claimed)
	}
}

// TestSessionKeysVersion checks that a later replacement has a higher version, whatever the
// alphabetical order of the names and whichever release chose them.
func TestSessionKeysVersion(t *testing.T) {
	for entry, want := range map[string]int64{
		SessionKeysLeaf: 0, "session-keys-9": 9, "session-keys-10": 10,
		"session-keys-1000000000000": 1, "session-keys-10999999999999": 10, "session-keys-9999999999999999999": 9999999,
		"session-keys-99999999999999999999": 0, "pepper": 0,
	} {
		if got := SessionKeysVersion(entry); got != want {
			t.Errorf("%s: %d, want %d", entry, got, want)
		}
	}
}

// TestNewEntries checks that the names are valid, in order and unique.
func TestNewEntries(t *testing.T) {
	seen := map[string]bool{}
	for _, version := range []int64{1, 2, 10, 9_999_999} {
		for range 10 {
			entry := NewSessionKeysEntry(version)
			if !IsSessionKeysEntry(entry) || SessionKeysVersion(entry) != version || len(entry) > 32 || seen[entry] {
				t.Errorf("version %d: %s", version, entry)
			}
			seen[entry] = true
			if pepper := NewPepperEntry(); !IsPepperEntry(pepper) || seen[pepper] {
				t.Errorf("pepper: %s", pepper)
			} else {
				seen[pepper] = true
			}
		}
	}
	for _, entry := range []string{"", "session-keys-", "session-keys-0", "session-keys/2", "pepper-2", "pepper-../x", "marker"} {
		if IsSessionKeysEntry(entry) || IsPepperEntry(entry) {
			t.Errorf("%q is taken for an entry", entry)
		}
	}
}

// TestSessionKeysEntry checks that a file without the field, as earlier releases wrote it, names
// the first entry.
func TestSessionKeysEntry(t *testing.T) {
	for _, tc := range []struct{ written, entry string }{{entry: SessionKeysLeaf}, {written: "session-keys-7", entry: "session-keys-7"}} {
		c := valid()
		c.Keys.Vault.SessionKeys = tc.written
		raw, err := Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if named := strings.Contains(string(raw), "sessionKeys:"); named != (tc.written != "") {
			t.Errorf("the file names an entry: %t\n%s", named, raw)
		}
		got, err := Parse(raw)
		if err != nil || got.Keys.Vault.SessionKeysEntry() != tc.entry {
			t.Errorf("%v: %q, want %q", err, got.Keys.Vault.SessionKeysEntry(), tc.entry)
		}
	}
}

// TestLaterDefaultsAreNotWritten checks that a file with defaults equals that of the previous
// release.
func TestLaterDefaultsAreNotWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*Config)
		written bool
	}{
		"unset":    {change: func(*Config) {}},
		"defaults": {change: func(c *Config) { c.setDefaults() }},
		"others": {change: func(c *Config) {
			c.RateLimits.RegistrationsPerDay, c.Quotas = 499, Quotas{Accounts: 1, Notes: 2, Bytes: 1 << 20}
		}, written: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := valid()
			tc.change(c)
			raw, err := Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			for _, field := range []string{"registrationsPerDay:", "quotas:", "accounts:", "notes: ", "bytes:"} {
				if written := strings.Contains(string(raw), field); written != tc.written {
					t.Errorf("the file has %s: %t, want %t\n%s", field, written, tc.written, raw)
				}
			}
			want := *c
			want.setDefaults()
			if got, err := Parse(raw); err != nil || got.Quotas != want.Quotas || got.RateLimits != want.RateLimits {
				t.Errorf("read back: %v, %v", got, err)
			}
		})
	}
}

func TestErrorsNameTheField(t *testing.T) {
	for field, change := range map[string]func(*Config){
		"apiVersion":                       func(c *Config) { c.APIVersion = "v2" },
		"deployment.id":                    func(c *Config) { c.Deployment.ID = "" },
		"deployment.name":                  func(c *Config) { c.Deployment.Name = "" },
		"listen":                           func(c *Config) { c.Listen = "8443" },
		"tls.keyFile":                      func(c *Config) { c.TLS.KeyFile = "" },
		"database":                         func(c *Config) { c.Database.SQLite = &SQLite{Path: "/db"} },
		"database.postgres.uriFile":        func(c *Config) { c.Database.Postgres.URIFile = "" },
		"database.postgres.maxConnections": func(c *Config) { c.Database.Postgres.MaxConnections = -1 },
		"database.postgres.vaultCredentials": func(c *Config) {
			c.Database.Postgres.VaultCredentials = &VaultCredentials{Mount: "database", Role: "role"}
			c.Keys = Keys{Local: &Local{File: "/key"}}
		},
		"database.postgres.vaultCredentials.mount": func(c *Config) {
			c.Database.Postgres.VaultCredentials = &VaultCredentials{Mount: "database/../sys", Role: "role"}
		},
		"database.postgres.vaultCredentials.role": func(c *Config) { c.Database.Postgres.VaultCredentials = &VaultCredentials{Mount: "database"} },
		"keys":                             func(c *Config) { c.Keys.Vault = nil },
		"keys.vault.address":               func(c *Config) { c.Keys.Vault.Address = "http://vault" },
		"keys.vault.transitKey":            func(c *Config) { c.Keys.Vault.TransitKey = "../other" },
		"keys.vault.kvPath":                func(c *Config) { c.Keys.Vault.KVPath = "a//b" },
		"keys.vault.sessionKeys":           func(c *Config) { c.Keys.Vault.SessionKeys = "pepper" },
		"keys.vault.sessionKeysDigest":     func(c *Config) { c.Keys.Vault.SessionKeysDigest = "00" },
		"keys.vault.pepper":                func(c *Config) { c.Keys.Vault.Pepper = "marker" },
		"keys.vault.pepperDigest":          func(c *Config) { c.Keys.Vault.PepperDigest = strings.Repeat("G", 64) },
		"keys.vault.authMount":             func(c *Config) { c.Keys.Vault.AuthMount = "a?b" },
		"auth.registration":                func(c *Config) { c.Auth.Registration = "Maybe" },
		"auth.tokenTTL":                    func(c *Config) { c.Auth.TokenTTL = Duration(time.Second) },
		"auth.bcryptCost":                  func(c *Config) { c.Auth.BcryptCost = 4 },
		"auth.minPasswordLength":           func(c *Config) { c.Auth.MinPasswordLength = 7 },
		"rateLimits.failedLoginsPerMinute": func(c *Config) { c.RateLimits.FailedLoginsPerMinute = -1 },
		"rateLimits.requestsPerMinute":     func(c *Config) { c.RateLimits.RequestsPerMinute = 2_000_000 },
		"rateLimits.registrationsPerDay":   func(c *Config) { c.RateLimits.RegistrationsPerDay = -1 },
		"quotas.accounts":                  func(c *Config) { c.Quotas.Accounts = 10_000_001 },
		"quotas.notes":                     func(c *Config) { c.Quotas.Notes = -1 },
		"quotas.bytes":                     func(c *Config) { c.Quotas.Bytes = 1<<20 - 1 },
		"trustedProxies[1]":                func(c *Config) { c.TrustedProxies = []string{"10.0.0.0/8", "everyone"} },
		"cors.allowedOrigins[0]":           func(c *Config) { c.CORS.AllowedOrigins = []string{"*"} },
		"log.level":                        func(c *Config) { c.Log.Level = "loud" },
	} {
		t.Run(field, func(t *testing.T) {
			c := valid()
			change(c)
			_, err := Marshal(c)
			if field == "apiVersion" { // Marshal sets it
				err = c.Validate()
			}
			if err == nil || !strings.Contains(err.Error(), field+":") && !strings.Contains(err.Error(), field+",") {
				t.Errorf("error %v does not name %s", err, field)
			}
		})
	}
}

func TestUnknownAndDuplicateFieldsAreRefused(t *testing.T) {
	raw, err := Marshal(valid())
	if err != nil {
		t.Fatal(err)
	}
	for name, extra := range map[string]string{"unknown": "\nbcryptCost: 12\n", "duplicate": "\nkind: Config\n"} {
		if _, err := Parse(append([]byte(nil), string(raw)+extra...)); err == nil {
			t.Errorf("%s field accepted", name)
		}
	}
}

func TestNewSecretsAreValid(t *testing.T) {
	keys, err := NewSessionKeys()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.KeySet(); err != nil {
		t.Error(err)
	}
	if _, err := NewPepper().Values(); err != nil {
		t.Error(err)
	}
	keys.EncryptionKeyID = keys.SigningKeyID
	if _, err := keys.KeySet(); err == nil {
		t.Error("a signing key was accepted for encryption")
	}
}

func FuzzParse(f *testing.F) {
	raw, err := Marshal(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte("kind: Config"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := Parse(raw)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Errorf("parsed, but not valid: %v", err)
		}
	})
}

// TestGracePeriodCoversShutdown checks that a pod that drains is not killed, and that it has time
// to sign the end of its audit log.
func TestGracePeriodCoversShutdown(t *testing.T) {
	const signing = 5 * time.Second
	if least := DrainTime + ShutdownTimeout + signing; GracePeriod < least {
		t.Errorf("the grace period is %s, want at least %s", GracePeriod, least)
	}
}

// TestEveryFieldIsRead finds fields that the file may have and that the service ignores.
func TestEveryFieldIsRead(t *testing.T) {
	read := map[string]bool{}
	for _, root := range []string{"../cmd", "../internal"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if selector, ok := n.(*ast.SelectorExpr); ok {
					read[selector.Sel.Name] = true
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	// Load itself reads these two.
	read["APIVersion"], read["Kind"] = true, true
	for _, field := range unread(reflect.TypeFor[Config](), read) {
		t.Errorf("nothing in app/cmd or app/internal reads the field %s of the configuration", field)
	}
}

func unread(kind reflect.Type, read map[string]bool) (fields []string) {
	for kind.Kind() == reflect.Pointer {
		kind = kind.Elem()
	}
	if kind.Kind() != reflect.Struct || kind.PkgPath() != reflect.TypeFor[Config]().PkgPath() {
		return nil
	}
	for field := range kind.Fields() {
		if !read[field.Name] {
			fields = append(fields, kind.Name()+"."+field.Name)
		}
		fields = append(fields, unread(field.Type, read)...)
	}
	return fields
}
