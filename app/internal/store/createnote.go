package store

import (
	"context"
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

// CreateNote stores a note if the session is live and the key that it is sealed with is active.
// When it returns nil the note is committed. Errors: envelope.ErrKeyNotActive, also when the
// session has ended, and notes.ErrExists. After ErrKeyNotActive the caller reads the active key
// again, which fails with sessions.ErrInvalid if the session has ended.
func (c *core) CreateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) error {
	alone := false // the batch of the note failed, so it joins no other
	return c.untilKnown(ctx, c.noteExists(ctx, id, n.ID), func() error {
		if !alone {
			_, err := c.creates.Do(ctx, creation{id, now, n})
			if alone = errors.Is(err, errRunAlone); !alone {
				return err
			}
		}
		return c.createNoteIn(ctx, c.db, id, now, n)
	})
}

// noteExists returns a check for untilKnown. A note's id is random, so a note with that id is the
// one that was to be created.
func (c *core) noteExists(ctx context.Context, id sessions.Identity, note string) func() (bool, error) {
	return c.exists(ctx, "SELECT count(*) FROM notes WHERE owner = $1 AND id = $2", id.Owner, note)
}

// createBatches bounds the creations that share a transaction, by number and by bytes: a note may
// have 400 KiB. While one batch waits for the disk the next one is prepared. The timeout is shorter
// than that of a request, which leaves time to find out whether the batch was committed.
var createBatches = batch.Options{Most: 64, MostWeight: 4 << 20, Parallel: 2, Timeout: 10 * time.Second}

// creation is a note to create.
type creation struct {
	id   sessions.Identity
	now  time.Time
	note notes.Sealed
}

// size returns the weight of the creation in a batch.
func (c creation) size() int { return len(c.note.Content) + len(c.note.Title) + len(c.note.Tags) }

// creationResults returns the result of each creation of a batch: stored holds the ids of the
// committed notes, and err is the error of the whole transaction. After an error each creation is
// tried on its own, so that one bad note harms no other.
func creationResults(list []creation, stored map[string]bool, err error) []batch.Result[struct{}] {
	results := make([]batch.Result[struct{}], len(list))
	for i, c := range list {
		switch {
		case errors.Is(err, ErrUnavailable):
			results[i].Err = err
		case err != nil:
			results[i].Err = fmt.Errorf("%w: %w", errRunAlone, err)
		case !stored[c.note.ID]:
			results[i].Err = envelope.ErrKeyNotActive
		}
	}
	return results
}

func (c *core) createNoteIn(ctx context.Context, q queryer, id sessions.Identity, now time.Time, n notes.Sealed) error {
	changed, err := c.execIn(ctx, q, insertNote, id.Owner, id.Session, n.ID, n.KeyID, n.Revision,
		n.Content, n.Title, n.Tags, micros(n.CreatedAt), micros(now))
	// errForeignKey: the key was deleted between the statement's snapshot and its foreign-key
	// check.
	if errors.Is(err, errForeignKey) || err == nil && changed == 0 {
		return envelope.ErrKeyNotActive
	}
	return err
}
