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

const insertNote = `INSERT INTO notes (owner, id, key_id, revision, content, title, tags, created_at, updated_at)
	SELECT k.owner, $3, k.id, $5, $6, $7, $8, $9, $9
	FROM sessions s JOIN owner_keys k ON k.owner = s.owner AND k.id = $4 AND k.state = 'active'
	WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $10`

// CreateNote stores a note if the session lives and the key it was sealed with is active. When it returns
// nil the note is committed. Errors: sessions.ErrInvalid or envelope.ErrKeyNotActive (indistinct:
// envelope.ErrKeyNotActive), notes.ErrExists.
func (s *Store) CreateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) error {
	return s.untilKnown(ctx, s.noteExists(ctx, id, n.ID), func() error {
		c := creation{id, now, n}
		_, err := s.creates.Do(ctx, c)
		if errors.Is(err, errAlone) {
			err = s.createAlone(ctx, c)
		}
		return err
	})
}

// noteExists asks for a note by its id, which is random: a note of it is the one that was to be created.
func (s *Store) noteExists(ctx context.Context, id sessions.Identity, note string) func() (bool, error) {
	return s.exists(ctx, "SELECT count(*) FROM notes WHERE owner = $1 AND id = $2", id.Owner, note)
}

// createBatches bounds the creations that share a transaction, by number and by bytes: a note may have
// 400 KiB. While one of them waits for the disk the next is made ready. The timeout is below that of a
// request, so that there is time left to find out what became of it.
var createBatches = batch.Options{Most: 64, MostWeight: 4 << 20, Parallel: 2, Timeout: 10 * time.Second}

// creation is a note that is to be created.
type creation struct {
	id   sessions.Identity
	now  time.Time
	note notes.Sealed
}

func (c creation) size() int { return len(c.note.Content) + len(c.note.Title) + len(c.note.Tags) }

// errAlone sends a call back to be made in its own request, where it holds up nobody else: the joined one
// has failed for the sake of one of its calls.
var errAlone = errors.New("the call must be made alone")

// createNotes creates notes of concurrent requests in one transaction. None of them is answered before it is
// committed, and when it fails each is tried on its own, so that a bad one harms no other.
func (s *Store) createNotes(ctx context.Context, list []creation) []batch.Result[struct{}] {
	results := make([]batch.Result[struct{}], len(list))
	stored, err := s.dialect.insertNotes(ctx, s, list)
	for i, c := range list {
		switch {
		case errors.Is(err, ErrUnavailable):
			results[i].Err = err
		case err != nil:
			results[i].Err = fmt.Errorf("%w: %w", errAlone, err)
		case !stored[c.note.ID]:
			results[i].Err = envelope.ErrKeyNotActive
		}
	}
	return results
}

func (s *Store) createAlone(ctx context.Context, c creation) error {
	return s.again(ctx, func() error { return s.createNoteIn(ctx, s.db, c.id, c.now, c.note) })
}

func (s *Store) createNoteIn(ctx context.Context, q queryer, id sessions.Identity, now time.Time, n notes.Sealed) error {
	changed, err := s.execIn(ctx, q, insertNote, id.Owner, id.Session, n.ID, n.KeyID, n.Revision,
		n.Content, n.Title, n.Tags, micros(n.CreatedAt), micros(now))
	// The key was deleted between the statement's snapshot and its foreign-key check.
	if errors.Is(err, errStillNeeded) || err == nil && changed == 0 {
		return envelope.ErrKeyNotActive
	}
	return err
}

// errKeyUsed undoes a transaction whose idempotency key turned out to be used.
var errKeyUsed = errors.New("the idempotency key is used")

// CreateNoteIdempotent is CreateNote under an idempotency key, which lasts until expires. When the key is
// in use, it stores nothing and returns what was created then.
func (s *Store) CreateNoteIdempotent(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.IdempotencyKey) (notes.First, error) {
	err := s.untilKnown(ctx, s.noteExists(ctx, id, n.ID), func() error {
		return s.transact(ctx, func(tx queryer) error {
			// A digest under another pepper cannot be compared with: the key is free again.
			_, err := s.execIn(ctx, tx, "DELETE FROM idempotency_keys WHERE owner = $1 AND key = $2 AND (expires_at <= $3 OR pepper_id <> $4)",
				id.Owner, key.Digest, micros(now), key.Pepper)
			if err != nil {
				return err
			}
			if err := s.createNoteIn(ctx, tx, id, now, n); err != nil {
				return err
			}
			// Of two at the same moment, the second one waits here for the first one's end.
			changed, err := s.execIn(ctx, tx, `INSERT INTO idempotency_keys (owner, key, note, created_at, expires_at, request, pepper_id)
				VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`, id.Owner, key.Digest, n.ID, micros(n.CreatedAt),
				micros(key.Expires), nullable(key.Request), nullable(key.Pepper))
			if err == nil && changed == 0 {
				err = errKeyUsed
			}
			return err
		})
	})
	if !errors.Is(err, errKeyUsed) {
		return notes.First{ID: n.ID, CreatedAt: n.CreatedAt, Request: key.Request}, err
	}
	first, found, err := s.FirstNote(ctx, id, now, key)
	if err == nil && !found {
		err = fmt.Errorf("%w: the idempotency key has expired in this moment", ErrUnavailable)
	}
	return first, err
}

// FirstNote returns what was created under an idempotency key, and whether the key is in use.
// Errors: sessions.ErrInvalid.
func (s *Store) FirstNote(ctx context.Context, id sessions.Identity, now time.Time, key notes.IdempotencyKey) (first notes.First, found bool, err error) {
	var note, request sql.NullString
	var created sql.NullInt64
	err = s.row(ctx, `SELECT i.note, i.created_at, i.request FROM sessions s LEFT JOIN idempotency_keys i
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

// DeleteExpiredIdempotencyKeys removes at most limit keys that expired before now, and returns how many.
func (s *Store) DeleteExpiredIdempotencyKeys(ctx context.Context, now time.Time, limit int) (int64, error) {
	return s.exec(ctx, `DELETE FROM idempotency_keys WHERE (owner, key) IN
		(SELECT owner, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
