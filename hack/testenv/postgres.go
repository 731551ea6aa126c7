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

// postgresPassword is the superuser's password of a server that listens on loopback for one test.
const postgresPassword = "test-only"

// Postgres is a running PostgreSQL server with TLS and durable commits.
type Postgres struct {
	// CAFile verifies its certificate.
	CAFile string

	port       int
	bin, data  string
	dir        string
	settings   []string
	credential *syscall.Credential
	server     *process
}

// StartPostgres initialises and starts a server. PostgreSQL refuses to run as root, so a test that
// runs as root starts it as the user postgres or, if that does not exist, nobody.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	return startPostgres(t)
}

func startPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p := &Postgres{bin: filepath.Dir(binary(t, PostgresVariable, "initdb")), port: freePort(t), dir: temporaryDirectory(t), settings: settings}
	p.data = filepath.Join(p.dir, "data")
	certificate := NewCertificate(t, p.dir)
	p.CAFile = certificate.CertFile
	p.credential = unprivileged(t, p.dir)
	newCluster(t, p.dir)
	p.Start(t)
	return p
}

// initialise creates the files of a server in dir/data.
func initialise(t testing.TB, dir string) {
	t.Helper()
	passwordFile := filepath.Join(dir, "password")
	if err := os.WriteFile(passwordFile, []byte(postgresPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	initdb := exec.Command(binary(t, PostgresVariable, "initdb"), "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", passwordFile, "-E", "UTF8", "--locale=C", "--no-instructions", "--no-sync")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: unprivileged(t, dir)}
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v: %s", err, out)
	}
}

// copyTree copies a directory with its owners and modes.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		t.Fatalf("cp -a %s %s: %v: %s", from, to, err, out)
	}
}

// Start restarts the server after Stop.
func (p *Postgres) Start(t testing.TB) {
	t.Helper()
	arguments := append([]string{"-D", p.data, "-k", p.dir,
		"-p", strconv.Itoa(p.port), "-c", "listen_addresses=127.0.0.1", "-c", "ssl=on",
		"-c", "ssl_cert_file=" + filepath.Join(p.dir, "tls.crt"),
		"-c", "ssl_key_file=" + filepath.Join(p.dir, "tls.key"), "-c", "max_connections=200"}, p.settings...)
	command := exec.Command(filepath.Join(p.bin, "postgres"), arguments...)
	command.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	command.Dir, command.Env = p.dir, append(os.Environ(), "HOME="+p.dir) // a standby looks for certificates in HOME
	p.server = start(t, p.dir, "postgres", syscall.SIGINT, command)
	p.server.await(t, func(ctx context.Context) error {
		conn, err := pgx.Connect(ctx, p.URI("postgres"))
		if err != nil {
			return err
		}
		return conn.Close(ctx)
	})
}

// StartStandby starts a standby of this server. From then on this server answers a commit only
// after the standby has it, too.
func (p *Postgres) StartStandby(t testing.TB) *Postgres {
	t.Helper()
	standby := &Postgres{CAFile: p.CAFile, bin: p.bin, port: freePort(t), dir: temporaryDirectory(t)}
	standby.data = filepath.Join(standby.dir, "data")
	for _, name := range []string{"tls.crt", "tls.key"} {
		raw, err := os.ReadFile(filepath.Join(p.dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(standby.dir, name), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	standby.credential = unprivileged(t, standby.dir)
	backup := exec.Command(filepath.Join(p.bin, "pg_basebackup"), "--pgdata", standby.data, "--write-recovery-conf", "--checkpoint", "fast",
		"--dbname", p.URI("postgres"))
	backup.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential}
	backup.Dir, backup.Env = standby.dir, append(os.Environ(), "HOME="+standby.dir)
	if out, err := backup.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v: %s", err, out)
	}
	standby.Start(t)
	p.Execute(t, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
	return standby
}

// Promote promotes a standby to a server that accepts writes.
func (p *Postgres) Promote(t testing.TB) {
	t.Helper()
	p.Execute(t, "SELECT pg_promote()")
}

// Execute runs statements as the superuser.
func (p *Postgres) Execute(t testing.TB, statements ...string) {
	t.Helper()
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, p.URI("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// Host returns the address that the server listens on, host:port.
func (p *Postgres) Host() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// Stop stops the server at once, as a crash would (SIGQUIT: no checkpoint, clients cut off).
func (p *Postgres) Stop(t testing.TB) {
	t.Helper()
	p.server.stop(t, syscall.SIGQUIT)
}

// URI returns a connection URI for a database of the server, verified by CAFile.
func (p *Postgres) URI(database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=verify-full&sslrootcert=%s", postgresPassword, p.Host(), database, p.CAFile)
}

// CreateDatabase creates an empty database and returns its URI.
func (p *Postgres) CreateDatabase(t testing.TB, name string) string {
	t.Helper()
	p.Execute(t, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize())
	return p.URI(name)
}

// CopyDatabase copies a database to which no client is connected, and returns the copy's URI. The
// copy is dropped when the test ends.
func (p *Postgres) CopyDatabase(t testing.TB, template, name string) string {
	t.Helper()
	p.Execute(t, "CREATE DATABASE "+pgx.Identifier{name}.Sanitize()+" TEMPLATE "+pgx.Identifier{template}.Sanitize())
	t.Cleanup(func() { p.Execute(t, "DROP DATABASE "+pgx.Identifier{name}.Sanitize()+" WITH (FORCE)") })
	return p.URI(name)
}

// temporaryDirectory replaces t.TempDir, because another user must be able to access the directory,
// and because the path of a socket may have at most 107 bytes.
func temporaryDirectory(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sn-pg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// unprivileged makes a user other than root the owner of dir, and returns that user's credentials.
// It returns nil if the test does not run as root.
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
