package testenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// postgresPassword is of the superuser of a server that listens on loopback for one test.
const postgresPassword = "test-only"

// Postgres is a running PostgreSQL server with TLS and durable commits.
type Postgres struct {
	// CAFile verifies its certificate.
	CAFile string

	port       int
	bin, data  string
	dir        string
	credential *syscall.Credential
	server     *process
}

// StartPostgres initialises and starts a server. As root it runs as the user postgres or, where
// there is none, nobody: PostgreSQL refuses to run as root.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	initdb := binary(t, PostgresVariable, "initdb")
	p := &Postgres{bin: filepath.Dir(initdb), port: freePort(t), dir: temporaryDirectory(t)}
	p.data = filepath.Join(p.dir, "data")
	certificate := NewCertificate(t, p.dir)
	p.CAFile = certificate.CertFile
	passwordFile := filepath.Join(p.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(postgresPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	p.credential = unprivileged(t, p.dir)
	initialise := exec.Command(initdb, "-D", p.data, "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", passwordFile, "-E", "UTF8", "--locale=C", "--no-instructions")
	initialise.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	initialise.Dir = p.dir
	if out, err := initialise.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
	p.Start(t)
	return p
}

// Start starts the server again after Stop.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	command := exec.Command(filepath.Join(p.bin, "postgres"), "-D", p.data, "-k", p.dir,
		"-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on",
		"-c", "ssl_cert_file="+filepath.Join(p.dir, "tls.crt"),
		"-c", "ssl_key_file="+filepath.Join(p.dir, "tls.key"), "-c", "max_connections=200")
	command.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	command.Dir = p.dir
	p.server = start(t, p.dir, "postgres", syscall.SIGINT, command)
	p.server.await(t, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.URI("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// Stop stops the server at once, as a crash would (SIGQUIT: no checkpoint, clients cut off).
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	p.server.stop(t, syscall.SIGQUIT)
}

// URI is a connection URI for a database of the server, verified by CAFile.
func (p *Postgres) URI(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/%s?sslmode=verify-full&sslrootcert=%s",
		postgresPassword, p.port, database, p.CAFile)
}

// CreateDatabase makes an empty database and returns its URI.
func (p *Postgres) CreateDatabase(t testing.TB, name string) string {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.URI("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()); err != nil {
		t.Fatal(err)
	}
	return p.URI(name)
}

// temporaryDirectory is not t.TempDir, because another user must be able to reach it, and because
// a socket's path may have 107 bytes at the most.
func temporaryDirectory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sn-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// unprivileged gives dir to a user who is not root, and returns how to run as that user; nil when
// the test does not run as root.
func unprivileged(t testing.TB, dir string) *syscall.Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID != nil || errGID != nil {
			continue
		}
		err = filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Chown(path, int(uid), int(gid))
		})
		if err != nil {
			t.Fatal(err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatalf("PostgreSQL refuses to run as root, and there is no user %s", strings.Join([]string{"postgres", "nobody"}, " or "))
	return nil
}
