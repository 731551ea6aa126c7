package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Usage returns the number of the owner's notes, and the bytes that the notes and the owner's
// idempotency keys take. Both databases read only the lengths of the sealed values. Error:
// sessions.ErrInvalid.
func (c *core) Usage(ctx context.Context, id sessions.Identity, now time.Time) (notes.Usage, error) {
	var used notes.Usage
	var keys int64
	err := c.row(ctx, `SELECT count(n.id), coalesce(sum(octet_length(n.content)
			+ coalesce(octet_length(n.title), 0) + coalesce(octet_length(n.tags), 0)), 0),
			(SELECT count(*) FROM idempotency_keys WHERE owner = $1)
		FROM sessions s LEFT JOIN notes n ON n.owner = s.owner
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3 GROUP BY s.id`,
		[]any{id.Owner, id.Session, micros(now)}, &used.Notes, &used.Bytes, &keys)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	used.Bytes += keys * notes.IdempotencyKeyBytes
	return used, err
}

// CountUsers returns the number of accounts.
func (c *core) CountUsers(ctx context.Context) (int64, error) {
	var count int64
	err := c.row(ctx, "SELECT count(*) FROM users", nil, &count)
	return count, err
}

// PeppersInUse implements Deployment.
func (c *core) PeppersInUse(ctx context.Context) (map[string]int64, error) {
	users := map[string]int64{}
	err := c.rows(ctx, "SELECT pepper_id, count(*) FROM users GROUP BY pepper_id", nil, func(rows *sql.Rows) error {
		var pepper string
		var count int64
		if err := rows.Scan(&pepper, &count); err != nil {
			return err
		}
		users[pepper] = count
		return nil
	})
	return users, err
}
