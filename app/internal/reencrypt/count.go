package reencrypt

import (
	"context"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/store"
)

// countPage is for how many owners one statement counts rows while the database is idle: a few
// milliseconds of its time.
const countPage = 100

// stalenessCount is a count of the sealed rows under stale keys.
type stalenessCount struct {
	store     staleCounter
	tables    []store.SealedTable
	owners    store.OwnerRange
	staleness store.Staleness
	to        int
	// page returns for how many owners the next statement counts rows. pause runs after each
	// statement.
	page  func() int
	pause func() error
}

// run counts the sealed rows of the owners under stale keys, by the version of their key. It counts
// in pages, because one statement over a million rows would occupy a processor of the database for
// a second. A row that changes during the count may be counted or not.
func (c stalenessCount) run(ctx context.Context) (map[int]int64, error) {
	counts := map[int]int64{}
	after := ""
	for {
		page, err := c.store.StaleOwners(ctx, c.owners, c.staleness, c.to, after, c.page())
		if err != nil {
			return nil, fmt.Errorf("find the owners of stale keys: %w", err)
		}
		if len(page) == 0 {
			return counts, nil
		}
		after = page[len(page)-1]
		for _, table := range c.tables {
			rows, err := c.store.CountStaleRows(ctx, table, page, c.staleness, c.to)
			if err != nil {
				return nil, fmt.Errorf("count the rows of %s: %w", table.Name, err)
			}
			for version, n := range rows {
				counts[version] += n
			}
		}
		if err := c.pause(); err != nil {
			return nil, err
		}
	}
}
