package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

var (
	// errKeyUsed rolls back a transaction whose idempotency key is already in use.
	errKeyUsed = errors.New("the idempotency key is used")
	// errOtherPepper means that a replica with another pepper has just used the idempotency key, so
	// that the requests cannot be compared.
	errOtherPepper = errors.New("a replica with another pepper has just used the idempotency key")
)

// CreateNoteIdempotent is CreateNote under an idempotency key. If the key is in use, it stores
// nothing and returns what was created under it. Error: ErrUnavailable also if a concurrent request
// of a replica with another pepper uses the key.
func (c *core) CreateNoteIdempotent(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.IdempotencyKey) (notes.First, error) {
	created := notes.First{ID: n.ID, CreatedAt: n.CreatedAt, Request: key.Request}
	err := c.untilKnown(ctx, c.noteExists(ctx, id, n.ID), func() error {
		err := c.createUnderKey(ctx, id, now, n, key)
		if !errors.Is(err, errKeyUsed) {
			return err
		}
		first, found, err := c.FirstNote(ctx, id, now, key)
		if err != nil {
			return err
		}
		if found {
			created = first
			return nil
		}
		// A retry would take the key from the other replica's request, and store the note twice.
		used, err := c.exists(ctx, "SELECT count(*) FROM idempotency_keys WHERE owner = $1 AND key = $2 AND expires_at > $3",
			id.Owner, key.Digest, micros(now))()
		switch {
		case err != nil:
			return err
		case used:
			return errOtherPepper
		}
		return fmt.Errorf("%w: the idempotency key has just expired, so it is free again", errRetry)
	})
	if errors.Is(err, errOtherPepper) {
		err = fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return created, err
}

// createUnderKey stores a note and its idempotency key, or neither and errKeyUsed. It does not
// retry.
func (c *core) createUnderKey(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.IdempotencyKey) error {
	return c.transactOnce(ctx, func(tx queryer) error {
		// A digest under another pepper cannot be compared, so its key is free again.
		_, err := c.execIn(ctx, tx, "DELETE FROM idempotency_keys WHERE owner = $1 AND key = $2 AND (expires_at <= $3 OR pepper_id <> $4)",
			id.Owner, key.Digest, micros(now), key.Pepper)
		if err != nil {
			return err
		}
		if err := c.createNoteIn(ctx, tx, id, now, n); err != nil {
			return err
		}
		// Of two concurrent requests, the second one waits here until the first one ends.
		changed, err := c.execIn(ctx, tx, `INSERT INTO idempotency_keys (owner, key, note, created_at, expires_at, request, pepper_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, id.Owner, key.Digest, n.ID, micros(n.CreatedAt),
			micros(key.Expires), nullable(key.Request), nullable(key.Pepper))
		if err == nil && changed == 0 {
			err = errKeyUsed
		}
		return err
	})
}

// FirstNote returns what was created under an idempotency key, and whether the key is in use.
// Error: sessions.ErrInvalid.
func (c *core) FirstNote(ctx context.Context, id sessions.Identity, now time.Time, key notes.IdempotencyKey) (first notes.First, found bool, err error) {
	var note, request sql.NullString
	var created sql.NullInt64
	err = c.row(ctx, `SELECT i.note, i.created_at, i.request FROM sessions s LEFT JOIN idempotency_keys i
			ON i.owner = s.owner AND i.key = $3 AND i.expires_at > $4 AND (i.pepper_id IS NULL OR i.pepper_id = $5)
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4`,
		[]any{id.Owner, id.Session, key.Digest, micros(now), key.Pepper}, &note, &created, &request)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	if err != nil || !note.Valid {
		return notes.First{}, false, err
	}
	return notes.First{ID: note.String, CreatedAt: fromMicros(created.Int64), Request: request.String}, true, nil
}

// DeleteExpiredIdempotencyKeys implements Administration.
func (c *core) DeleteExpiredIdempotencyKeys(ctx context.Context, now time.Time, limit int) (int64, error) {
	return c.exec(ctx, `DELETE FROM idempotency_keys WHERE (owner, key) IN
		(SELECT owner, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
