package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// lastID sorts after every note's id.
const lastID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

// ActiveKey returns the owner's active key. Error: sessions.ErrInvalid.
func (c *core) ActiveKey(ctx context.Context, id sessions.Identity, now time.Time) (envelope.StoredKey, error) {
	key := envelope.StoredKey{Owner: id.Owner}
	err := c.row(ctx, `SELECT k.id, k.wrapped FROM sessions s JOIN owner_keys k ON k.owner = s.owner AND k.state = 'active'
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`,
		[]any{id.Owner, id.Session, micros(now)}, &key.ID, (*string)(&key.Wrapped))
	if errors.Is(err, sql.ErrNoRows) {
		return key, sessions.ErrInvalid
	}
	return key, err
}

// Notes returns the owner's notes before the given id, newest first. An empty id means no
// note: the list begins with the newest. Error: sessions.ErrInvalid.
func (c *core) Notes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]notes.Summary, error) {
	if before == "" {
		before = lastID
	}
	var list []notes.Summary
	live := false
	// A live session without notes still has one row.
	err := c.rows(ctx, `SELECT n.id, n.created_at, n.updated_at
		FROM sessions s LEFT JOIN notes n ON n.owner = s.owner AND n.id < $3
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4 ORDER BY n.id DESC LIMIT $5`,
		[]any{id.Owner, id.Session, before, micros(now), limit}, func(rows *sql.Rows) error {
			live = true
			var noteID sql.NullString
			var created, updated sql.NullInt64
			if err := rows.Scan(&noteID, &created, &updated); err != nil || !noteID.Valid {
				return err
			}
			list = append(list, notes.Summary{
				ID: noteID.String, CreatedAt: fromMicros(created.Int64), UpdatedAt: fromMicros(updated.Int64),
			})
			return nil
		})
	if err == nil && !live {
		err = sessions.ErrInvalid
	}
	return list, err
}

// SealedNotes returns the same notes as Notes, sealed, and the key of each. It returns about
// maxBatchBytes at most, but at least one note if there is one.
func (c *core) SealedNotes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]notes.Sealed, []envelope.StoredKey, error) {
	if before == "" {
		before = lastID
	}
	var (
		list []notes.Sealed
		keys []envelope.StoredKey
		live bool
		size int
	)
	err := c.rows(ctx, `SELECT n.id, n.key_id, n.revision, n.content, n.title, n.tags, n.created_at, n.updated_at, k.wrapped
		FROM sessions s
		LEFT JOIN notes n ON n.owner = s.owner AND n.id < $3
		LEFT JOIN owner_keys k ON k.owner = n.owner AND k.id = n.key_id
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4 ORDER BY n.id DESC LIMIT $5`,
		[]any{id.Owner, id.Session, before, micros(now), limit}, func(rows *sql.Rows) error {
			live = true
			var (
				note, keyID, wrapped       sql.NullString
				revision, created, updated sql.NullInt64
				n                          notes.Sealed
			)
			err := rows.Scan(&note, &keyID, &revision, &n.Content, &n.Title, &n.Tags, &created, &updated, &wrapped)
			if err != nil || !note.Valid {
				return err
			}
			n.ID, n.KeyID, n.Revision = note.String, keyID.String, revision.Int64
			n.CreatedAt, n.UpdatedAt = fromMicros(created.Int64), fromMicros(updated.Int64)
			list = append(list, n)
			keys = append(keys, envelope.StoredKey{Owner: id.Owner, ID: n.KeyID, Wrapped: envelope.Wrapped(wrapped.String)})
			if size += len(n.Content) + len(n.Title) + len(n.Tags); size >= maxBatchBytes {
				return errBatchFull
			}
			return nil
		})
	if errors.Is(err, errBatchFull) {
		err = nil
	}
	if err == nil && !live {
		err = sessions.ErrInvalid
	}
	return list, keys, err
}

// UpdateNote replaces a note, if the note's revision is the one before n's, the session is live and
// the key is active. It reports whether it did. The caller finds out why not.
func (c *core) UpdateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) (done bool, err error) {
	// A rotation changes neither the revision nor the time.
	written := c.exists(ctx, "SELECT count(*) FROM notes WHERE owner = $1 AND id = $2 AND revision = $3 AND updated_at = $4",
		id.Owner, n.ID, n.Revision, micros(n.UpdatedAt))
	err = c.untilKnown(ctx, written, func() error {
		changed, err := c.execIn(ctx, c.db, `UPDATE notes SET key_id = $4, revision = $5, content = $6, title = $7, tags = $8, updated_at = $9
			WHERE owner = $1 AND id = $3 AND revision + 1 = $5
			  AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $10)
			  AND EXISTS (SELECT 1 FROM owner_keys k WHERE k.owner = $1 AND k.id = $4 AND k.state = 'active')`,
			id.Owner, id.Session, n.ID, n.KeyID, n.Revision, n.Content, n.Title, n.Tags, micros(n.UpdatedAt), micros(now))
		if err == nil && changed == 0 || errors.Is(err, errForeignKey) {
			err = errNothingDone
		}
		return err
	})
	return err == nil, ifDone(err)
}

// DeleteNote deletes a note without decrypting it, if its revision is the given one. Revision 0
// matches every revision. It reports whether it did. The caller finds out why not.
func (c *core) DeleteNote(ctx context.Context, id sessions.Identity, now time.Time, note string, revision int64) (done bool, err error) {
	// It makes no difference whether an earlier attempt or another request deleted the note.
	gone := c.exists(ctx, `SELECT count(*) FROM sessions s LEFT JOIN notes n ON n.owner = s.owner AND n.id = $3
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4 AND n.id IS NULL`, id.Owner, id.Session, note, micros(now))
	err = c.untilKnown(ctx, gone, func() error {
		changed, err := c.execIn(ctx, c.db, `DELETE FROM notes WHERE owner = $1 AND id = $3 AND (revision = $4 OR $4 = 0)
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $5)`,
			id.Owner, id.Session, note, revision, micros(now))
		if err == nil && changed == 0 {
			err = errNothingDone
		}
		return err
	})
	return err == nil, ifDone(err)
}

// errNothingDone means that a write found nothing to change.
var errNothingDone = errors.New("nothing was changed")

// ifDone returns the error of a write for which finding nothing to change is no error.
func ifDone(err error) error {
	if errors.Is(err, errNothingDone) {
		return nil
	}
	return err
}
