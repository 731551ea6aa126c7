package reencrypt

import (
	"context"
	"fmt"

	"github.com/securenotes/securenotes/app/internal/store"
)

// countPage is of how many owners the rows are counted at once where there is nobody to make way for: a few
// milliseconds of the database's time.
const countPage = 100

// stalenessCount is what is counted, and how.
type stalenessCount struct {
	store     staleCounter
	tables    []store.SealedTable
	owners    store.OwnerRange
	staleness store.Staleness
	to        int
	// page is of how many owners the rows are counted at once, and pause follows each page.
	page  func() int
	pause func() error
}

// run counts the sealed rows of the owners under stale keys, by the version of their key: one statement that counted a
// million rows would take a processor of the database from its users for a second. What changes meanwhile may be
// counted or not.
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
