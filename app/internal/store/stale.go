package store

import (
	"context"
	"database/sql"
)

// Staleness is what of the database is under older versions of the master key.
type Staleness struct {
	// Oldest is the oldest version that an owner key or the canary is wrapped under; 0 in an empty database.
	Oldest int
	// Rows counts sealed rows by the version of their key, for the versions below the fence that an owner key
	// still has: a rotation has yet to move them.
	Rows map[int]int64
}

// Staleness of the tables. Without stale keys it is a few steps in indexes, however large the tables; with
// some, it counts the rows under them: measured with PostgreSQL on two processors, 0.4 ms without any, and for
// a million stale notes 0.3 s, or 0.7 s before they are vacuumed.
func (s *Store) Staleness(ctx context.Context, tables []SealedTable) (Staleness, error) {
	var oldest sql.NullInt64
	err := s.row(ctx, "SELECT min(v) FROM (SELECT min(kek_version) AS v FROM owner_keys UNION ALL SELECT canary_version FROM meta) AS versions",
		nil, &oldest)
	if err != nil {
		return Staleness{}, err
	}
	stale := Staleness{Oldest: int(oldest.Int64), Rows: map[int]int64{}}
	fence, err := s.Fence(ctx)
	if err != nil {
		return stale, err
	}
	add := func(rows *sql.Rows) error {
		var version int
		var count int64
		err := rows.Scan(&version, &count)
		stale.Rows[version] += count
		return err
	}
	err = s.rows(ctx, s.db, "SELECT DISTINCT kek_version, 0 FROM owner_keys WHERE kek_version < $1", []any{fence}, add)
	if err != nil || len(stale.Rows) == 0 {
		return stale, err
	}
	for _, table := range tables {
		err := s.rows(ctx, s.db, `SELECT k.kek_version, count(*) FROM owner_keys k JOIN `+table.Name+` t ON t.owner = k.owner AND t.key_id = k.id
			WHERE k.kek_version < $1 GROUP BY k.kek_version`, []any{fence}, add)
		if err != nil {
			return stale, err
		}
	}
	return stale, nil
}
