package notes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

// idempotencyKeyLifetime is how long a creation that is sent again is recognized.
const idempotencyKeyLifetime = 24 * time.Hour

// IdempotencyKeyBytes is how many bytes of a quota an idempotency key takes until it has expired and is
// deleted: more than its row and the entries of its indexes take in the database.
const IdempotencyKeyBytes = 512

// ErrIdempotencyKeyReused means that the idempotency key was used for another note.
var ErrIdempotencyKeyReused = errors.New("the idempotency key was used for another note")

// IdempotencyKey is an idempotency key as it is stored.
type IdempotencyKey struct {
	// Digest is SHA-256 of the client's key, in hex.
	Digest string
	// Request is the keyed digest of the request, and Pepper the id of the pepper that its key is
	// derived from.
	Request, Pepper string
	Expires         time.Time
}

// First is what was created under an idempotency key when it was used first.
type First struct {
	ID        string
	CreatedAt time.Time
	// Request is the keyed digest of that request. Empty: the previous release stored none.
	Request string
}

// CreateIdempotent is Create under a client's idempotency key: when the same client sends the same again,
// the note of the first time is returned, and repeated is true, whatever has become of that note
// since. Errors: ErrIdempotencyKeyReused, and those of Create.
func (s *Service) CreateIdempotent(ctx context.Context, id sessions.Identity, key string, text Text) (_ Note, repeated bool, err error) {
	digest := sha256.Sum256([]byte(key))
	record := IdempotencyKey{Digest: hex.EncodeToString(digest[:]), Request: s.requestDigest(id.Owner, key, text), Pepper: s.requests.Pepper}
	var first First
	n, err := s.create(ctx, id, text, IdempotencyKeyBytes, func(n Sealed) (bool, error) {
		record.Expires = n.CreatedAt.Add(idempotencyKeyLifetime)
		var err error
		first, err = s.store.CreateNoteIdempotent(ctx, id, s.now(), n, record)
		return first.ID == n.ID, err
	})
	var full *QuotaError
	if errors.As(err, &full) {
		// The first request may have created the note that has reached the limit.
		used, found, errFirst := s.store.FirstNote(ctx, id, s.now(), record)
		if found || errFirst != nil {
			first, err = used, errFirst
		}
	}
	if err != nil || first.ID == n.ID {
		return n, false, err
	}
	same := first.Request == record.Request
	if first.Request == "" {
		same, err = s.sameAsNote(ctx, id, first.ID, text)
	}
	switch {
	case err != nil:
		return Note{}, false, err
	case !same:
		return Note{}, false, ErrIdempotencyKeyReused
	}
	return Note{Text: text, ID: first.ID, Revision: 1, CreatedAt: first.CreatedAt, UpdatedAt: first.CreatedAt}, true, nil
}

// requestDigest stands for a request: the owner's key is not used for it, because a rotation
// replaces that.
func (s *Service) requestDigest(owner, key string, text Text) string {
	fields := []string{owner, key, text.Content, text.Title, strconv.Itoa(len(text.Tags))}
	return s.requests.Digest(append(fields, text.Tags...)...)
}

// sameAsNote compares a request with the note that an earlier one created, as the previous release
// does: while the note is unchanged. What it was before a change or its deletion is not known.
func (s *Service) sameAsNote(ctx context.Context, id sessions.Identity, note string, text Text) (bool, error) {
	first, err := s.Get(ctx, id, note)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return err == nil && (first.Revision > 1 || first.equal(text)), err
}

func (t Text) equal(other Text) bool {
	return t.Content == other.Content && t.Title == other.Title && slices.Equal(t.Tags, other.Tags)
}
