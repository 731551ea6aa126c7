package store

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

// RowCounts counts rows for the progress of a backup.
type RowCounts interface {
	// CountRows returns how many rows a table of a backup has now.
	CountRows(context.Context, Table) (int64, error)
}

// CountRows implements RowCounts.
func (c *core) CountRows(ctx context.Context, t Table) (int64, error) {
	var count int64
	err := c.row(ctx, "SELECT count(*) FROM "+t.Name, nil, &count)
	return count, err
}

// LatestSchema returns the number of the last migration that this program knows. Both kinds of
// databases have the same migrations.
func LatestSchema() (int64, error) {
	files, err := fs.Glob(migrationFiles, "migrations/postgres/*.sql")
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("migrations: none found: %w", err)
	}
	number, _, _ := strings.Cut(path.Base(files[len(files)-1]), "_")
	return strconv.ParseInt(number, 10, 64)
}
