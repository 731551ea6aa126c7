//go:build !integration

package storetest

import (
	"os"
	"testing"
)

// Main runs the tests of a package. The TestMain of each package that uses Each calls it.
func Main(m *testing.M) { os.Exit(m.Run()) }

// Each runs the test with an empty database, as the subtest sqlite. With the build tag integration
// there is a second subtest, postgresql. This build has no PostgreSQL server.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, SQLite(t))
	})
}

// EachJob is Each for what a Job does: job opens the database as a Job, and api as a pod of the
// API.
func EachJob(t *testing.T, test func(t *testing.T, job, api Open)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		open := SQLite(t)
		test(t, open, open)
	})
}
