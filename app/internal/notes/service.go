package notes

import (
	"context"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Store is what notes need of the database. Each method checks that the session is live, in the
// same statement or transaction; see package store.
type Store interface {
	CreateNote(context.Context, sessions.Identity, time.Time, Sealed) error
	CreateNoteIdempotent(context.Context, sessions.Identity, time.Time, Sealed, IdempotencyKey) (First, error)
	// FirstNote returns what was created under an idempotency key, and whether the key is in use.
	FirstNote(context.Context, sessions.Identity, time.Time, IdempotencyKey) (_ First, found bool, _ error)
	ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error)
	Note(ctx context.Context, id sessions.Identity, now time.Time, note string) (Sealed, envelope.StoredKey, error)
	Notes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]Summary, error)
	SealedNotes(ctx context.Context, id sessions.Identity, now time.Time, before string, limit int) ([]Sealed, []envelope.StoredKey, error)
	// UpdateNote replaces the note if its revision is the one before n's and n's key is active. It
	// reports whether it has.
	UpdateNote(ctx context.Context, id sessions.Identity, now time.Time, n Sealed) (bool, error)
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
// have an idempotency key. perUser is each user's quota.
func NewService(store Store, keys *envelope.Cache, requests *pepper.Key, perUser Usage) *Service {
	return &Service{store: store, keys: keys, requests: requests, quota: newQuota(store, perUser), now: time.Now}
}

// Budget limits the memory of notes that are read at the same time.
type Budget interface {
	// Reserve reserves memory, or returns an error when there is not enough left.
	Reserve(bytes int) error
}

// unlimited is a [Budget] that reserves nothing.
type unlimited struct{}

// Reserve implements [Budget].
func (unlimited) Reserve(int) error { return nil }

// Get returns a note. Errors: sessions.ErrInvalid, ErrNotFound.
func (s *Service) Get(ctx context.Context, id sessions.Identity, note string) (Note, error) {
	return s.GetWithin(ctx, id, note, unlimited{})
}

// GetWithin is Get for a note that may stay in memory for long. It reserves twice the note's size:
// for the sealed and for the opened text. Errors: also the budget's.
func (s *Service) GetWithin(ctx context.Context, id sessions.Identity, note string, budget Budget) (Note, error) {
	n, err := s.read(ctx, id, note, budget)
	if errors.Is(err, envelope.ErrRefused) {
		// A rotation may have rewrapped the row's key and disabled the old key version after the
		// row was read. Read again; the memory is reserved already.
		n, err = s.read(ctx, id, note, unlimited{})
	}
	return n, err
}

// read reads and opens a note once.
func (s *Service) read(ctx context.Context, id sessions.Identity, note string, budget Budget) (Note, error) {
	n, stored, err := s.store.Note(ctx, id, s.now(), note)
	if err != nil {
		return Note{}, err
	}
	if err := budget.Reserve(2 * len(n.Content)); err != nil {
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

// Revision returns the note's current revision. Errors: sessions.ErrInvalid, ErrNotFound.
func (s *Service) Revision(ctx context.Context, id sessions.Identity, note string) (int64, error) {
	n, _, err := s.store.Note(ctx, id, s.now(), note)
	return n.Revision, err
}

// List returns up to limit of the owner's notes, newest first. It begins after the note with the id
// before, or with the newest note if that is empty. It decrypts nothing. Errors:
// sessions.ErrInvalid.
func (s *Service) List(ctx context.Context, id sessions.Identity, before string, limit int) ([]Summary, error) {
	return s.store.Notes(ctx, id, s.now(), before, limit)
}

// Delete deletes a note of the given revision, or of any revision if that is 0. It decrypts
// nothing. Errors: sessions.ErrInvalid, ErrNotFound, ErrStale.
func (s *Service) Delete(ctx context.Context, id sessions.Identity, note string, revision int64) error {
	deleted, err := s.store.DeleteNote(ctx, id, s.now(), note, revision)
	if err != nil || deleted {
		return err
	}
	if _, _, err := s.store.Note(ctx, id, s.now(), note); err != nil {
		return err
	}
	return ErrStale
}
