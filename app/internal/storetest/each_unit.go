//go:build !integration

package storetest

import "testing"

// Each runs the test on an empty SQLite database. With the build tag integration it runs it on
// PostgreSQL.
func Each(t *testing.T, test func(t *testing.T, open Open)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) { test(t, SQLite(t)) })
}
