package reencrypt

import (
	"context"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/store"
)

// countPage is of how many owners the rows are counted at once: a few milliseconds of the database's time.
const countPage = 100

// countStaleRows counts the sealed rows of the owners in the range under stale keys, by the version of their key, a page
// of owners at a time, each followed by a pause: one statement that counted a million rows would take a processor of the
// database from its users for a second. What changes meanwhile may be counted or not.
func countStaleRows(ctx context.Context, db *store.Store, tables []store.SealedTable, owners store.OwnerRange, age store.Age, to int, pause func() error) (map[int]int64, error) {
	counts := map[int]int64{}
	after := ""
	for {
		page, err := db.StaleOwners(ctx, owners, age, to, after, countPage)
		if err != nil {
			return nil, fmt.Errorf("find the owners of stale keys: %w", err)
		}
		if len(page) == 0 {
			return counts, nil
		}
		after = page[len(page)-1]
		for _, table := range tables {
			rows, err := db.CountStaleRows(ctx, table, page, age, to)
			if err != nil {
				return nil, fmt.Errorf("count the rows of %s: %w", table.Name, err)
			}
			for version, n := range rows {
				counts[version] += n
			}
		}
		if err := pause(); err != nil {
			return nil, err
		}
	}
}
