package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

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
	return s.untilKnown(ctx, func() error {
		_, err := s.creates.Do(ctx, creation{id, now, n})
		return err
	})
}

// createBatches bounds the creations that share a transaction. While one of them waits for the disk the next
// is made ready.
var createBatches = batch.Options{Most: 64, Parallel: 2, Timeout: RequestTimeout}

// creation is a note that is to be created.
type creation struct {
	id   sessions.Identity
	now  time.Time
	note notes.Sealed
}

// createNotes creates notes of concurrent requests in one transaction. None of them is answered before it is
// committed, and when it fails each is tried on its own, so that a bad one harms no other.
func (s *Store) createNotes(ctx context.Context, list []creation) []batch.Result[struct{}] {
	results := make([]batch.Result[struct{}], len(list))
	if len(list) > 1 {
		stored, err := s.dialect.insertNotes(ctx, s, list)
		for i, c := range list {
			switch {
			case err != nil:
				results[i].Err = err
			case !stored[c.note.ID]:
				results[i].Err = envelope.ErrKeyNotActive
			}
		}
		if err == nil || errors.Is(err, ErrUnavailable) {
			return results
		}
	}
	var singly errgroup.Group
	singly.SetLimit(createsSingly)
	for i, c := range list {
		singly.Go(func() error {
			results[i].Err = s.again(ctx, func() error { return s.createNoteIn(ctx, s.db, c.id, c.now, c.note) })
			return nil
		})
	}
	_ = singly.Wait() // each has its own result
	return results
}

// createsSingly is how many of a failed transaction's notes are created at once.
const createsSingly = 8

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

// CreateNoteOnce is CreateNote under an idempotency key, which lasts until expires. When the key was used
// before, it stores nothing and returns what was created then.
func (s *Store) CreateNoteOnce(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.OnceKey) (notes.Summary, error) {
	err := s.untilKnown(ctx, func() error {
		return s.transact(ctx, func(tx queryer) error {
			_, err := s.execIn(ctx, tx, "DELETE FROM idempotency_keys WHERE owner = $1 AND key = $2 AND expires_at <= $3",
				id.Owner, key.Digest, micros(now))
			if err != nil {
				return err
			}
			if err := s.createNoteIn(ctx, tx, id, now, n); err != nil {
				return err
			}
			// Of two at the same moment, the second one waits here for the first one's end.
			changed, err := s.execIn(ctx, tx, `INSERT INTO idempotency_keys (owner, key, note, created_at, expires_at)
				VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`, id.Owner, key.Digest, n.ID, micros(n.CreatedAt), micros(key.Expires))
			if err == nil && changed == 0 {
				err = errKeyUsed
			}
			return err
		})
	})
	if !errors.Is(err, errKeyUsed) {
		return n.Summary(), err
	}
	var note sql.NullString
	var created sql.NullInt64
	err = s.row(ctx, `SELECT i.note, i.created_at FROM sessions s LEFT JOIN idempotency_keys i ON i.owner = s.owner AND i.key = $3
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4`, []any{id.Owner, id.Session, key.Digest, micros(now)}, &note, &created)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return notes.Summary{}, sessions.ErrInvalid
	case err != nil:
		return notes.Summary{}, err
	case !note.Valid:
		return notes.Summary{}, fmt.Errorf("%w: the idempotency key has expired in this moment", ErrUnavailable)
	}
	return notes.Summary{ID: note.String, CreatedAt: fromMicros(created.Int64)}, nil
}

// untilKnown repeats a creation whose outcome is not known because the connection was lost: the note may
// have been committed, and the client must not be told otherwise. The note's id tells: a repetition that
// finds it there has found its own.
func (s *Store) untilKnown(ctx context.Context, create func() error) error {
	err := create()
	for _, pause := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, time.Second} {
		if !errors.Is(err, ErrUnavailable) {
			break
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
		if err = create(); errors.Is(err, notes.ErrExists) {
			return nil
		}
	}
	return err
}

// DeleteExpiredIdempotencyKeys removes at most limit keys that expired before now, and returns how many.
func (s *Store) DeleteExpiredIdempotencyKeys(ctx context.Context, now time.Time, limit int) (int64, error) {
	return s.exec(ctx, `DELETE FROM idempotency_keys WHERE (owner, key) IN
		(SELECT owner, key FROM idempotency_keys WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
