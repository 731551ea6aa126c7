//go:build !integration

package backup_test

import "testing"

// kinds returns how to create each kind of database that the build can test.
func kinds() map[string]func(testing.TB) *database {
	return map[string]func(testing.TB) *database{"sqlite": newSQLite}
}

// migrated returns how to create each kind of database with a schema.
func migrated() map[string]func(testing.TB) *database {
	return map[string]func(testing.TB) *database{"sqlite": newMigratedSQLite}
}
