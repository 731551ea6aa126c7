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

// idempotencyKeyLifetime is how long a retry of a creation is recognized.
const idempotencyKeyLifetime = 24 * time.Hour

// IdempotencyKeyBytes is how many bytes of a quota an idempotency key takes until it expires and is
// deleted. Its row and index entries take less in the database.
const IdempotencyKeyBytes = 512

// ErrIdempotencyKeyReused means that the idempotency key was used for another note.
var ErrIdempotencyKeyReused = errors.New("the idempotency key was used for another note")

// IdempotencyKey is an idempotency key as it is stored.
type IdempotencyKey struct {
	// Digest is the SHA-256 of the client's key, in hex.
	Digest string
	// Request is the keyed digest of the request. Pepper is the id of the pepper from which the key
	// of that digest is derived.
	Request, Pepper string
	Expires         time.Time
}

// First is the note that the first request with an idempotency key created.
type First struct {
	ID        string
	CreatedAt time.Time
	// Request is the keyed digest of that request. It is empty if the previous release stored the
	// key.
	Request string
}

// CreateIdempotent is Create with a client's idempotency key. When the client sends the same
// request again, it returns the note of the first request and repeated is true, even if that note
// was changed or deleted since. Errors: ErrIdempotencyKeyReused, and those of Create.
func (s *Service) CreateIdempotent(ctx context.Context, id sessions.Identity, key string, text Text) (_ Note, repeated bool, err error) {
	record := s.newIdempotencyKey(id.Owner, key, text)
	n, first, err := s.create(ctx, id, text, &record)
	_, exceeded := errors.AsType[*QuotaError](err)
	switch {
	case exceeded:
		// The first request may have created the note that reached the limit.
		used, found, errFirst := s.store.FirstNote(ctx, id, s.now(), record)
		if errFirst != nil {
			return Note{}, false, errFirst
		}
		if !found {
			return Note{}, false, err
		}
		first = used
	case err != nil:
		return Note{}, false, err
	case first.ID == n.ID:
		return n.note(text), false, nil
	}
	note, err := s.replay(ctx, id, record, first, text)
	return note, err == nil, err
}

// replay returns the note that the first request created, as it was then, if the request is a retry
// of the first one. Error: also ErrIdempotencyKeyReused.
func (s *Service) replay(ctx context.Context, id sessions.Identity, record IdempotencyKey, first First, text Text) (Note, error) {
	same, err := s.sameRequest(ctx, id, record, first, text)
	if err != nil {
		return Note{}, err
	}
	if !same {
		return Note{}, ErrIdempotencyKeyReused
	}
	return Note{Text: text, ID: first.ID, Revision: 1, CreatedAt: first.CreatedAt, UpdatedAt: first.CreatedAt}, nil
}

// newIdempotencyKey returns the record of a client's key for a request. The digest of the request
// does not use the owner key, because a rotation replaces that.
func (s *Service) newIdempotencyKey(owner, key string, text Text) IdempotencyKey {
	digest := sha256.Sum256([]byte(key))
	fields := []string{owner, key, text.Content, text.Title, strconv.Itoa(len(text.Tags))}
	return IdempotencyKey{
		Digest: hex.EncodeToString(digest[:]), Request: s.requests.Digest(append(fields, text.Tags...)...), Pepper: s.requests.Pepper,
	}
}

// sameRequest reports whether a request is a retry of the first one. Without a digest of the first
// request it compares with the note that was created, as the previous release does. A note that was
// changed or deleted since is taken for the same.
func (s *Service) sameRequest(ctx context.Context, id sessions.Identity, record IdempotencyKey, first First, text Text) (bool, error) {
	if first.Request != "" {
		return first.Request == record.Request, nil
	}
	created, err := s.Get(ctx, id, first.ID)
	if errors.Is(err, ErrNotFound) {
		return true, nil
	}
	return err == nil && (created.Revision > 1 || created.equal(text)), err
}

func (t Text) equal(other Text) bool {
	return t.Content == other.Content && t.Title == other.Title && slices.Equal(t.Tags, other.Tags)
}
