package testenv

import (
	"context"
	"crypto/tls"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"
)

// redisPassword is the password of a server that listens on loopback for one test.
const redisPassword = "test-only"

// Redis is a running Redis server that accepts only TLS connections.
type Redis struct {
	// CAFile verifies its certificate.
	CAFile string
	// URI of a connection, rediss://...
	URI string

	certificate *Certificate
	dir         string
	port        int
	server      *process
}

// StartRedis starts a server that stores nothing on disk.
func StartRedis(t testing.TB) *Redis {
	t.Helper()
	r := &Redis{dir: t.TempDir(), port: freePort(t)}
	r.certificate = NewCertificate(t, r.dir)
	r.CAFile = r.certificate.CertFile
	r.URI = fmt.Sprintf("rediss://:%s@127.0.0.1:%d/0", redisPassword, r.port)
	r.Start(t)
	return r
}

// Start restarts the server after Stop.
func (r *Redis) Start(t testing.TB) {
	t.Helper()
	command := exec.Command(binary(t, RedisVariable), "--port", "0", "--bind", "127.0.0.1", "--tls-port", strconv.Itoa(r.port),
		"--tls-cert-file", r.certificate.CertFile, "--tls-key-file", r.certificate.KeyFile, "--tls-ca-cert-file", r.CAFile,
		"--tls-auth-clients", "no", "--requirepass", redisPassword, "--save", "", "--dir", r.dir)
	// The program acts according to the name that it is called by. Debian's redis-tools contains it
	// under another name, and the package that has it as redis-server would start a system service.
	command.Args[0] = "redis-server"
	r.server = start(t, r.dir, "redis", syscall.SIGTERM, command)
	client := r.client()
	defer client.Close()
	r.server.await(t, func(ctx context.Context) error { return client.Ping(ctx).Err() })
}

// Stop ends the server, which loses all its counters.
func (r *Redis) Stop(t testing.TB) {
	t.Helper()
	r.server.stop(t, syscall.SIGTERM)
}

func (r *Redis) client() *redis.Client {
	return redis.NewClient(&redis.Options{
		Addr: fmt.Sprintf("127.0.0.1:%d", r.port), Password: redisPassword,
		TLSConfig: &tls.Config{RootCAs: r.certificate.Pool, ServerName: "127.0.0.1"},
	})
}

// ChangePassword sets another password, closes all connections, and returns the URI with the new
// password.
func (r *Redis) ChangePassword(t testing.TB) (uri string) {
	t.Helper()
	client := r.client()
	defer client.Close()
	const changed = "test-only-changed"
	if err := client.ConfigSet(t.Context(), "requirepass", changed).Err(); err != nil {
		t.Fatal(err)
	}
	if err := client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	return strings.Replace(r.URI, redisPassword, changed, 1)
}
