package store

import (
	"context"
	"database/sql"
	"fmt"
)

// OldestVersion is the oldest version of the master key that an owner key or the canary is wrapped under; 0 in an empty
// database.
func (s *Store) OldestVersion(ctx context.Context) (int, error) {
	var oldest sql.NullInt64
	err := s.row(ctx, "SELECT min(v) FROM (SELECT min(kek_version) AS v FROM owner_keys UNION ALL SELECT canary_version FROM meta) AS versions",
		nil, &oldest)
	return int(oldest.Int64), err
}

// CountStaleRows counts the rows of a table that are sealed with the owners' stale keys, by the version of the key; also
// none, for a version that only keys have. Its time goes by how many rows these owners have.
func (s *Store) CountStaleRows(ctx context.Context, t SealedTable, owners []string, by Staleness, to int) (map[int]int64, error) {
	where, parameter := s.dialect.oneOf("k.owner", owners)
	counts := map[int]int64{}
	err := s.rows(ctx, s.db, fmt.Sprintf(`SELECT k.%[1]s, count(t.id) FROM owner_keys k LEFT JOIN %[2]s t ON t.owner = k.owner AND t.key_id = k.id
		WHERE %[3]s AND k.%[1]s < $2 GROUP BY k.%[1]s`, by, t.Name, where), []any{parameter, to}, func(rows *sql.Rows) error {
		var version int
		var count int64
		err := rows.Scan(&version, &count)
		counts[version] = count
		return err
	})
	return counts, err
}

// CountStaleKeys counts stale owner keys.
func (s *Store) CountStaleKeys(ctx context.Context, by Staleness, to int) (int64, error) {
	var count int64
	err := s.row(ctx, "SELECT count(*) FROM owner_keys WHERE "+string(by)+" < $1", []any{to}, &count)
	return count, err
}
