package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is a running PgBouncer with TLS to its clients and to its server.
type PgBouncer struct {
	// CAFile verifies its certificate.
	CAFile string

	address, dir string
	credential   *syscall.Credential
	pooler       *process
}

// StartPgBouncer starts a PgBouncer in front of a server. poolMode is session, transaction or
// statement; poolSize is the number of server connections for each database and user.
func StartPgBouncer(t testing.TB, server *Postgres, poolMode string, poolSize int) *PgBouncer {
	t.Helper()
	p := &PgBouncer{address: FreeAddress(t), dir: temporaryDirectory(t)}
	certificate := NewCertificate(t, p.dir)
	p.CAFile = certificate.CertFile
	host, port, _ := strings.Cut(p.address, ":")
	_, serverPort, _ := strings.Cut(server.Host(), ":")
	for name, text := range map[string]string{
		"users.txt": fmt.Sprintf("%q %q\n", "postgres", postgresPassword),
		"pgbouncer.ini": fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%s
[pgbouncer]
listen_addr = %s
listen_port = %s
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s
client_tls_sslmode = require
client_tls_cert_file = %s
client_tls_key_file = %s
server_tls_sslmode = verify-full
server_tls_ca_file = %s
pool_mode = %s
default_pool_size = %d
max_client_conn = 200
`, serverPort, host, port, filepath.Join(p.dir, "users.txt"), certificate.CertFile, certificate.KeyFile, server.CAFile, poolMode, poolSize),
	} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.credential = unprivileged(t, p.dir)
	p.Start(t)
	return p
}

// Start restarts PgBouncer after Stop.
func (p *PgBouncer) Start(t testing.TB) {
	t.Helper()
	command := exec.Command(binary(t, PgBouncerVariable), "--quiet", filepath.Join(p.dir, "pgbouncer.ini"))
	command.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	command.Dir = p.dir
	p.pooler = start(t, p.dir, "pgbouncer", syscall.SIGTERM, command)
	p.pooler.await(t, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.URI("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// Stop ends PgBouncer at once and disconnects its clients.
func (p *PgBouncer) Stop(t testing.TB) {
	t.Helper()
	p.pooler.stop(t, syscall.SIGTERM)
}

// URI returns a connection URI for a database of the server, verified by CAFile.
func (p *PgBouncer) URI(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=verify-full&sslrootcert=%s", postgresPassword, p.address, database, p.CAFile)
}
