package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// readBatches bounds the reads that share a statement: notes of up to 400 KiB each are in memory at once.
var readBatches = batch.Options{Most: 16, Parallel: 4, Timeout: RequestTimeout}

// reading is a note that is to be read.
type reading struct {
	id   sessions.Identity
	now  time.Time
	note string
}

// readNote is a note as it was read, and the key that it is sealed with.
type readNote struct {
	note notes.Sealed
	key  envelope.StoredKey
}

// Note returns a sealed note and the key it is sealed with. Errors: sessions.ErrInvalid,
// notes.ErrNotFound.
func (s *Store) Note(ctx context.Context, id sessions.Identity, now time.Time, note string) (notes.Sealed, envelope.StoredKey, error) {
	r := reading{id, now, note}
	read, err := s.reads.Do(ctx, r)
	if errors.Is(err, errAlone) {
		alone := s.selectNote(ctx, r)
		read, err = alone.Value, alone.Err
	}
	return read.note, read.key, err
}

// readNotes reads notes of concurrent requests with one statement. When it fails each is tried on its own,
// so that a bad one harms no other.
func (s *Store) readNotes(ctx context.Context, list []reading) []batch.Result[readNote] {
	if len(list) == 1 {
		return []batch.Result[readNote]{s.selectNote(ctx, list[0])}
	}
	results, err := s.dialect.selectNotes(ctx, s, list)
	if err != nil {
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: %w", errAlone, err)
		}
		for i := range results {
			results[i] = batch.Result[readNote]{Err: err}
		}
	}
	return results
}

func (s *Store) selectNote(ctx context.Context, r reading) batch.Result[readNote] {
	var row noteRow
	err := s.row(ctx, `SELECT `+noteColumns+` FROM sessions s
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

// noteColumns are what noteRow reads; all are NULL when the session lives and there is no such note.
const noteColumns = "n.key_id, n.revision, n.content, n.title, n.tags, n.created_at, n.updated_at, k.wrapped"

type noteRow struct {
	keyID, wrapped             sql.NullString
	revision, created, updated sql.NullInt64
	content, title, tags       []byte
}

func (row *noteRow) into() []any {
	return []any{&row.keyID, &row.revision, &row.content, &row.title, &row.tags, &row.created, &row.updated, &row.wrapped}
}

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
