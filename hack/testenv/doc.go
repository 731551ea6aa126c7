// Package testenv starts the real servers that tests need: HashiCorp Vault, PostgreSQL, Redis and
// an S3 server with TLS, PgBouncer and HAProxy. Each listens on loopback, has its files in a
// directory of the test, and ends when the test ends. A package whose TestMain calls [Main] can
// share one PostgreSQL server among all its tests: see [SharedPostgres].
//
// Environment variables, which `make test` sets, name the binaries. If a binary is missing, the
// test fails with a message: it never passes without having run.
package testenv

import (
	"os"
	"path/filepath"
	"testing"
)

const (
	// VaultVariable names the path of the vault binary.
	VaultVariable = "SECURENOTES_TEST_VAULT"
	// PostgresVariable names the directory of PostgreSQL's binaries.
	PostgresVariable = "SECURENOTES_TEST_POSTGRES"
	// RedisVariable names the path of the Redis server.
	RedisVariable = "SECURENOTES_TEST_REDIS"
	// HAProxyVariable names the path of the HAProxy binary.
	HAProxyVariable = "SECURENOTES_TEST_HAPROXY"
	// SchedulerVariable names the path of kube-scheduler.
	SchedulerVariable = "SECURENOTES_TEST_SCHEDULER"
	// HelmVariable names the path of helm.
	HelmVariable = "SECURENOTES_TEST_HELM"
	// PgBouncerVariable names the path of the PgBouncer binary.
	PgBouncerVariable = "SECURENOTES_TEST_PGBOUNCER"
	// ObjectStoreVariable names the path of versitygw.
	ObjectStoreVariable = "SECURENOTES_TEST_OBJECTSTORE"
)

func binary(t testing.TB, variable string, names ...string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Fatalf("%s is not set: run these tests with `make test-integration`, which starts the real servers", variable)
	}
	path := filepath.Join(append([]string{dir}, names...)...)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v: run `make tools`", variable, err)
	}
	return path
}
