package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// readBatches bounds the reads that share a statement: their notes, of up to 400 KiB each, are in
// memory at the same time.
var readBatches = batch.Options{Most: 16, Parallel: 4, Timeout: requestTimeout}

// reading is a note to read.
type reading struct {
	id   sessions.Identity
	now  time.Time
	note string
}

// readNote is a note and the key that it is sealed with.
type readNote struct {
	note notes.Sealed
	key  envelope.StoredKey
}

// Note returns a note and the key that it is sealed with. Errors: sessions.ErrInvalid,
// notes.ErrNotFound.
func (c *core) Note(ctx context.Context, id sessions.Identity, now time.Time, note string) (notes.Sealed, envelope.StoredKey, error) {
	r := reading{id, now, note}
	read, err := c.reads.Do(ctx, r)
	if errors.Is(err, errRunAlone) {
		alone := c.selectNote(ctx, r)
		read, err = alone.Value, alone.Err
	}
	return read.note, read.key, err
}

// selectNote reads one note.
func (c *core) selectNote(ctx context.Context, r reading) batch.Result[readNote] {
	var row noteRow
	err := c.row(ctx, `SELECT `+noteColumns+` FROM sessions s
		LEFT JOIN notes n ON n.owner = s.owner AND n.id = $3
		LEFT JOIN owner_keys k ON k.owner = n.owner AND k.id = n.key_id
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4`,
		[]any{r.id.Owner, r.id.Session, r.note, micros(r.now)}, row.into()...)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return batch.Result[readNote]{Err: sessions.ErrInvalid}
	case err != nil:
		return batch.Result[readNote]{Err: err}
	}
	return row.result(r)
}

// noteColumns are the columns of a noteRow. All are NULL if the session is live and the note does
// not exist.
const noteColumns = "n.key_id, n.revision, n.content, n.title, n.tags, n.created_at, n.updated_at, k.wrapped"

// noteRow is a row of noteColumns.
type noteRow struct {
	keyID, wrapped             sql.NullString
	revision, created, updated sql.NullInt64
	content, title, tags       []byte
}

// into returns where to scan noteColumns.
func (row *noteRow) into() []any {
	return []any{&row.keyID, &row.revision, &row.content, &row.title, &row.tags, &row.created, &row.updated, &row.wrapped}
}

// result returns the note of the row.
func (row *noteRow) result(r reading) batch.Result[readNote] {
	if !row.keyID.Valid {
		return batch.Result[readNote]{Err: notes.ErrNotFound}
	}
	return batch.Result[readNote]{Value: readNote{
		note: notes.Sealed{
			ID: r.note, KeyID: row.keyID.String, Revision: row.revision.Int64, Content: row.content, Title: row.title, Tags: row.tags,
			CreatedAt: fromMicros(row.created.Int64), UpdatedAt: fromMicros(row.updated.Int64),
		},
		key: envelope.StoredKey{Owner: r.id.Owner, ID: row.keyID.String, Wrapped: envelope.Wrapped(row.wrapped.String)},
	}}
}
