package notes

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// maxOvertaken bounds how often an unconditional update is tried again because another write came first.
const maxOvertaken = 5

// Store is what notes need of the database. Each method proves the session; see package store.
type Store interface {
	CreateNote(context.Context, sessions.Identity, time.Time, Sealed) error
	CreateNoteIdempotent(context.Context, sessions.Identity, time.Time, Sealed, IdempotencyKey) (First, error)
	// FirstNote returns what was created under an idempotency key, and whether the key is in use.
	FirstNote(context.Context, sessions.Identity, time.Time, IdempotencyKey) (_ First, found bool, _ error)
	ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error)
	Note(ctx context.Context, id sessions.Identity, now time.Time, note string) (Sealed, envelope.StoredKey, error)
	Notes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]Summary, error)
	SealedNotes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]Sealed, []envelope.StoredKey, error)
	UpdateNote(context.Context, sessions.Identity, time.Time, Sealed) (bool, error)
	DeleteNote(ctx context.Context, id sessions.Identity, now time.Time, note string, revision int64) (bool, error)
	// Usage counts what the owner has stored.
	Usage(context.Context, sessions.Identity, time.Time) (Usage, error)
}

// Service creates, reads, lists, changes and deletes the notes of their owners.
type Service struct {
	store    Store
	keys     *envelope.Cache
	requests *pepper.Key
	quota    *quota
	now      func() time.Time
}

// NewService returns a service. The key, for [pepper.Requests], is for the digests of requests that
// come with an idempotency key; a user may store up to the quota.
func NewService(store Store, keys *envelope.Cache, requests *pepper.Key, perUser Usage) *Service {
	return &Service{store: store, keys: keys, requests: requests, quota: newQuota(store, perUser), now: time.Now}
}

// Create stores a new note and returns it. Errors: sessions.ErrInvalid, ErrInvalidContent,
// ErrInvalidTitle, ErrInvalidTags, *QuotaError, and those of the key provider and the database.
func (s *Service) Create(ctx context.Context, id sessions.Identity, text Text) (Note, error) {
	return s.create(ctx, id, text, 0, func(n Sealed) (bool, error) {
		err := s.store.CreateNote(ctx, id, s.now(), n)
		return err == nil, err
	})
}

// create calls store with the sealed note, within the quota, of which so many bytes more are
// needed; store reports whether it has stored this note.
func (s *Service) create(ctx context.Context, id sessions.Identity, text Text, more int64, store func(Sealed) (bool, error)) (Note, error) {
	if err := text.validate(); err != nil {
		return Note{}, err
	}
	noteID, err := uuid.NewV7()
	if err != nil {
		return Note{}, fmt.Errorf("note id: %w", err)
	}
	now := s.now().Truncate(time.Microsecond)
	n := Sealed{ID: noteID.String(), Revision: 1, CreatedAt: now, UpdatedAt: now}
	err = s.write(ctx, id, text, &n, func() (bool, error) {
		settle, err := s.quota.reserve(ctx, id, Usage{Notes: 1, Bytes: n.size() + more})
		if err != nil {
			return false, err
		}
		stored := true // what has become of a write that fails may not be known
		defer func() { settle(stored) }()
		created, err := store(n)
		if err == nil || errors.Is(err, envelope.ErrKeyNotActive) {
			stored = created
		}
		if errors.Is(err, envelope.ErrKeyNotActive) {
			return false, nil
		}
		return err == nil, err
	})
	return n.note(text), err
}

// write seals text into n with the owner's active key and calls store, which reports whether the key was
// active.
func (s *Service) write(ctx context.Context, id sessions.Identity, text Text, n *Sealed, store func() (bool, error)) error {
	find := func(ctx context.Context) (envelope.StoredKey, error) { return s.store.ActiveKey(ctx, id, s.now()) }
	err := s.keys.SealActive(ctx, id.Owner, valuesPerNote, find, func(key *envelope.OwnerKey) (bool, error) {
		if err := text.seal(key, n); err != nil {
			return false, err
		}
		return store()
	})
	if err != nil {
		return fmt.Errorf("write note %s: %w", n.ID, err)
	}
	return nil
}

// Room is the memory that notes which are read at the same time share.
type Room interface {
	// Take sets bytes aside, or returns an error when there are not so many left.
	Take(bytes int) error
}

// Get returns a note. Errors: sessions.ErrInvalid, ErrNotFound.
func (s *Service) Get(ctx context.Context, id sessions.Identity, note string) (Note, error) {
	return s.get(ctx, id, note, takeNothing)
}

// GetWithin is Get for a note that may be in memory for long. It takes room for it, twice: sealed and opened. Errors:
// also the room's.
func (s *Service) GetWithin(ctx context.Context, id sessions.Identity, note string, room Room) (Note, error) {
	return s.get(ctx, id, note, room.Take)
}

func (s *Service) get(ctx context.Context, id sessions.Identity, note string, take func(bytes int) error) (Note, error) {
	n, err := s.getOnce(ctx, id, note, take)
	if errors.Is(err, envelope.ErrRefused) {
		// Between our reading the row and Vault's unwrapping its key, a rotation may have moved the
		// row and retired the version. The row as it is now decides; its room is taken already.
		n, err = s.getOnce(ctx, id, note, takeNothing)
	}
	return n, err
}

func takeNothing(int) error { return nil }

func (s *Service) getOnce(ctx context.Context, id sessions.Identity, note string, take func(bytes int) error) (Note, error) {
	n, stored, err := s.store.Note(ctx, id, s.now(), note)
	if err == nil {
		err = take(2 * len(n.Content))
	}
	if err != nil {
		return Note{}, err
	}
	key, err := s.keys.Key(ctx, stored)
	if err != nil {
		return Note{}, err
	}
	text, err := n.open(key)
	if err != nil {
		return Note{}, err
	}
	return n.note(text), nil
}

// Revision returns the revision that a note has now. Errors: sessions.ErrInvalid, ErrNotFound.
func (s *Service) Revision(ctx context.Context, id sessions.Identity, note string) (int64, error) {
	n, _, err := s.store.Note(ctx, id, s.now(), note)
	return n.Revision, err
}

// List returns up to limit of the owner's notes, newest first, those before the id given; empty:
// from the newest. It decrypts nothing. Errors: sessions.ErrInvalid.
func (s *Service) List(ctx context.Context, id sessions.Identity, before string, limit int) ([]Summary, error) {
	return s.store.Notes(ctx, id, s.now(), before, limit)
}

// Update replaces a note's text and returns the note, without the time of its creation. A revision
// of 0 replaces whatever is there. Errors: sessions.ErrInvalid, ErrNotFound, ErrStale, and those of
// Create. A note that does not grow is replaced also beyond the quota.
func (s *Service) Update(ctx context.Context, id sessions.Identity, note string, revision int64, text Text) (Note, error) {
	if err := text.validate(); err != nil {
		return Note{}, err
	}
	// Another write may come in between read and write; an unconditional one then reads again.
	for range maxOvertaken {
		current := revision
		if revision == 0 {
			found, _, err := s.store.Note(ctx, id, s.now(), note)
			if err != nil {
				return Note{}, err
			}
			current = found.Revision
		}
		n := Sealed{ID: note, Revision: current + 1, UpdatedAt: s.now().Truncate(time.Microsecond)}
		overtaken := false
		err := s.write(ctx, id, text, &n, func() (bool, error) {
			settle, err := s.reserveUpdate(ctx, id, n)
			if errors.Is(err, ErrStale) {
				overtaken = true
				return true, nil
			}
			if err != nil {
				return false, err
			}
			stored := true
			defer func() { settle(stored) }()
			done, err := s.store.UpdateNote(ctx, id, s.now(), n)
			stored = done || err != nil
			if err != nil || done {
				return done, err
			}
			found, _, err := s.store.Note(ctx, id, s.now(), note)
			if err != nil {
				return false, err
			}
			// Another revision: somebody else's write. The same one: the key was not active.
			overtaken = found.Revision != current
			return overtaken, nil
		})
		if err != nil || !overtaken {
			return n.note(text), err
		}
		if revision != 0 {
			break
		}
	}
	return Note{}, ErrStale
}

// Delete removes a note without decrypting it. A revision of 0 removes whatever is there. Errors:
// sessions.ErrInvalid, ErrNotFound, ErrStale.
func (s *Service) Delete(ctx context.Context, id sessions.Identity, note string, revision int64) error {
	done, err := s.store.DeleteNote(ctx, id, s.now(), note, revision)
	if err != nil || done {
		return err
	}
	if _, _, err := s.store.Note(ctx, id, s.now(), note); err != nil {
		return err
	}
	return ErrStale
}

// size is how many bytes of a quota the note takes.
func (n Sealed) size() int64 { return int64(len(n.Content) + len(n.Title) + len(n.Tags)) }

func (n Sealed) note(text Text) Note {
	return Note{Text: text, ID: n.ID, Revision: n.Revision, CreatedAt: n.CreatedAt, UpdatedAt: n.UpdatedAt}
}
