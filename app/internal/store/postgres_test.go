package store

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/securenotes/securenotes/app/config"
)

// TestDatabaseIsAlwaysVerified checks that, whatever the URI asks for, every connection uses TLS
// and verifies the server's certificate and name.
func TestDatabaseIsAlwaysVerified(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uri")
	for uri, ok := range map[string]bool{
		"postgres://u:p@db.example.com/notes":                                  true,
		"postgres://u:p@db.example.com/notes?sslmode=disable":                  true,
		"postgres://u:p@db.example.com/notes?sslmode=allow":                    true,
		"postgres://u:p@db.example.com/notes?sslmode=prefer":                   true,
		"postgres://u:p@db.example.com/notes?sslmode=require":                  true,
		"postgres://u:p@a.example.com,b.example.com/notes?sslmode=prefer":      true,
		"host=db.example.com user=u password=p dbname=notes sslmode=disable":   true,
		"postgres://u:p@/notes?host=/var/run/postgresql":                       false,
		"postgres://u:p@db.example.com,/notes?host=db.example.com,/var/run/pg": false,
	} {
		if err := os.WriteFile(file, []byte(uri), 0o600); err != nil {
			t.Fatal(err)
		}
		settings, err := postgresSettings(config.Postgres{URIFile: file})
		if !ok {
			if !errors.Is(err, ErrInvalidURI) {
				t.Errorf("%s: %v, want ErrInvalidURI", uri, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", uri, err)
			continue
		}
		hosts := []*pgconn.FallbackConfig{{Host: settings.Host, TLSConfig: settings.TLSConfig}}
		for _, host := range append(hosts, settings.Fallbacks...) {
			if c := host.TLSConfig; c == nil || c.InsecureSkipVerify || c.ServerName != host.Host || c.MinVersion < tls.VersionTLS12 {
				t.Errorf("%s: host %s: %+v", uri, host.Host, c)
			}
		}
	}
}
