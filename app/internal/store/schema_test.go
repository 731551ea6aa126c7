package store_test

import (
	"testing"

	"github.com/securenotes/securenotes/app/internal/store"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestBytesAreMarked checks that every column of bytes is declared as sealed. A rotation ignores a
// column that is not.
func TestBytesAreMarked(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		columns, err := store.Internals(open(t)).ColumnTypes(ctx)
		if err != nil || len(columns) < 20 {
			t.Fatalf("%d columns, %v", len(columns), err)
		}
		for column, kind := range columns {
			if kind == "blob" || kind == "bytea" {
				t.Errorf("column %s is %s: mark it as sealed_blob", column, kind)
			}
		}
	})
}
