package notes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// maxUpdateAttempts bounds how often an unconditional update is tried because another write came
// first.
const maxUpdateAttempts = 5

// Create stores a new note and returns it. Errors: sessions.ErrInvalid, ErrInvalidContent,
// ErrInvalidTitle, ErrInvalidTags, *QuotaError, and those of the key provider and the database.
func (s *Service) Create(ctx context.Context, id sessions.Identity, text Text) (Note, error) {
	n, _, err := s.create(ctx, id, text, nil)
	if err != nil {
		return Note{}, err
	}
	return n.note(text), nil
}

// create stores a new note. With an idempotency key, first is the note that the key's first request
// created; it differs from n when the request is a retry, which stores nothing.
func (s *Service) create(ctx context.Context, id sessions.Identity, text Text, key *IdempotencyKey) (n Sealed, first First, err error) {
	if err := text.validate(); err != nil {
		return Sealed{}, First{}, err
	}
	noteID, err := uuid.NewV7()
	if err != nil {
		return Sealed{}, First{}, fmt.Errorf("create note: id: %w", err)
	}
	now := s.now().Truncate(time.Microsecond)
	n = Sealed{ID: noteID.String(), Revision: 1, CreatedAt: now, UpdatedAt: now}
	if key != nil {
		key.Expires = now.Add(idempotencyKeyLifetime)
	}
	if first, err = s.sealAndInsert(ctx, id, text, &n, key); err != nil {
		return Sealed{}, First{}, fmt.Errorf("create note %s: %w", n.ID, err)
	}
	return n, first, nil
}

// sealAndInsert seals text into n and inserts it. When the database finds that the owner key is no
// longer active, it seals again with the key that replaced it.
func (s *Service) sealAndInsert(ctx context.Context, id sessions.Identity, text Text, n *Sealed, key *IdempotencyKey) (First, error) {
	keys := s.activeKeys(id)
	for keys.Next(ctx) {
		if err := text.seal(keys.Key(), n); err != nil {
			return First{}, err
		}
		first, err := s.insert(ctx, id, *n, key)
		if !errors.Is(err, envelope.ErrKeyNotActive) {
			return first, err
		}
	}
	return First{}, keys.Err()
}

// insert stores a sealed note within the user's quota.
func (s *Service) insert(ctx context.Context, id sessions.Identity, n Sealed, key *IdempotencyKey) (first First, err error) {
	needed := Usage{Notes: 1, Bytes: n.size()}
	if key != nil {
		needed.Bytes += IdempotencyKeyBytes
	}
	reserved, err := s.quota.reserve(ctx, id, needed)
	if err != nil {
		return First{}, err
	}
	defer reserved.release()
	if key == nil {
		first = First{ID: n.ID}
		err = s.store.CreateNote(ctx, id, s.now(), n)
	} else {
		first, err = s.store.CreateNoteIdempotent(ctx, id, s.now(), n, *key)
	}
	// Nothing was stored: the key is not active, or the request is a retry. After any other error
	// the note may have been stored, so it stays counted.
	if errors.Is(err, envelope.ErrKeyNotActive) || err == nil && first.ID != n.ID {
		reserved.unused()
	}
	return first, err
}

// Update replaces a note's text and returns the note, without its time of creation. A revision of 0
// replaces any revision. The quota does not apply to a note that does not grow. Errors:
// sessions.ErrInvalid, ErrNotFound, ErrStale, and those of Create.
func (s *Service) Update(ctx context.Context, id sessions.Identity, note string, revision int64, text Text) (Note, error) {
	if err := text.validate(); err != nil {
		return Note{}, err
	}
	for range maxUpdateAttempts {
		current := revision
		if revision == 0 {
			found, _, err := s.store.Note(ctx, id, s.now(), note)
			if err != nil {
				return Note{}, err
			}
			current = found.Revision
		}
		n := Sealed{ID: note, Revision: current + 1, UpdatedAt: s.now().Truncate(time.Microsecond)}
		err := s.sealAndReplace(ctx, id, text, &n)
		if err == nil {
			return n.note(text), nil
		}
		if !errors.Is(err, ErrStale) || revision != 0 {
			return Note{}, fmt.Errorf("update note %s: %w", note, err)
		}
		// Another write came first. An unconditional update reads the new revision and tries again.
	}
	return Note{}, fmt.Errorf("update note %s: %w after %d attempts", note, ErrStale, maxUpdateAttempts)
}

// sealAndReplace seals text into n, whose id and revision are set, and replaces the revision before
// it. Errors: ErrStale, ErrNotFound.
func (s *Service) sealAndReplace(ctx context.Context, id sessions.Identity, text Text, n *Sealed) error {
	keys := s.activeKeys(id)
	for keys.Next(ctx) {
		if err := text.seal(keys.Key(), n); err != nil {
			return err
		}
		replaced, err := s.replace(ctx, id, *n)
		if err != nil || replaced {
			return err
		}
		found, _, err := s.store.Note(ctx, id, s.now(), n.ID)
		if err != nil {
			return err
		}
		if found.Revision != n.Revision-1 {
			return ErrStale
		}
		// The revision is still the same, so the key is no longer active.
	}
	return keys.Err()
}

// replace stores a sealed note in place of its previous revision, within the user's quota. It
// reports false when the note has another revision or its key is not active. Errors: also ErrStale.
func (s *Service) replace(ctx context.Context, id sessions.Identity, n Sealed) (bool, error) {
	reserved, err := s.reserveUpdate(ctx, id, n)
	if err != nil {
		return false, err
	}
	defer reserved.release()
	replaced, err := s.store.UpdateNote(ctx, id, s.now(), n)
	if err == nil && !replaced {
		reserved.unused()
	}
	return replaced, err
}

// reserveUpdate reserves quota for n. The old and the new note both count until the next count of
// the quota. If that is too much, it reserves only what the note grows by. Errors: also ErrStale.
func (s *Service) reserveUpdate(ctx context.Context, id sessions.Identity, n Sealed) (*reservation, error) {
	reserved, err := s.quota.reserve(ctx, id, Usage{Bytes: n.size()})
	if _, exceeded := errors.AsType[*QuotaError](err); !exceeded {
		return reserved, err
	}
	old, _, err := s.store.Note(ctx, id, s.now(), n.ID)
	if err != nil {
		return nil, err
	}
	if old.Revision != n.Revision-1 {
		// The update must end here: the size of the revision that it would replace is unknown.
		return nil, ErrStale
	}
	if growth := n.size() - old.size(); growth > 0 {
		return s.quota.reserve(ctx, id, Usage{Bytes: growth})
	}
	return nil, nil // a nil reservation reserves nothing
}

// activeKeys returns the owner's active keys for a note's fields.
func (s *Service) activeKeys(id sessions.Identity) envelope.ActiveKeys {
	return s.keys.ActiveKeys(id.Owner, valuesPerNote, func(ctx context.Context) (envelope.StoredKey, error) {
		return s.store.ActiveKey(ctx, id, s.now())
	})
}
