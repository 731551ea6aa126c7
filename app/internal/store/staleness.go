package store

import (
	"context"
	"database/sql"
	"fmt"
)

// OldestVersion implements Rotation.
func (c *core) OldestVersion(ctx context.Context) (int, error) {
	return c.oldestVersionIn(ctx, c.db)
}

// oldestVersionIn is OldestVersion in q.
func (c *core) oldestVersionIn(ctx context.Context, q queryer) (int, error) {
	var oldest sql.NullInt64
	err := c.rowIn(ctx, q, "SELECT min(v) FROM (SELECT min(kek_version) AS v FROM owner_keys UNION ALL SELECT canary_version FROM meta) AS versions",
		nil, &oldest)
	return int(oldest.Int64), err
}

// CountStaleRows implements Rotation.
func (c *core) CountStaleRows(ctx context.Context, t SealedTable, owners []string, by Staleness, to int) (map[int]int64, error) {
	where, parameter := c.dialect.oneOf("k.owner", owners)
	counts := map[int]int64{}
	err := c.rows(ctx, fmt.Sprintf(`SELECT k.%[1]s, count(t.id) FROM owner_keys k LEFT JOIN %[2]s t ON t.owner = k.owner AND t.key_id = k.id
		WHERE %[3]s AND k.%[1]s < $2 GROUP BY k.%[1]s`, by, t.Name, where), []any{parameter, to}, func(rows *sql.Rows) error {
		var version int
		var count int64
		err := rows.Scan(&version, &count)
		counts[version] = count
		return err
	})
	return counts, err
}

// CountStaleKeys implements Rotation.
func (c *core) CountStaleKeys(ctx context.Context, by Staleness, to int) (int64, error) {
	var count int64
	err := c.row(ctx, "SELECT count(*) FROM owner_keys WHERE "+string(by)+" < $1", []any{to}, &count)
	return count, err
}
