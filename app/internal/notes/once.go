package notes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/internal/sessions"
)

// onceFor is how long a creation that is sent again is recognized.
const onceFor = 24 * time.Hour

// ErrOnceKeyReused means that the idempotency key was used for another note.
var ErrOnceKeyReused = errors.New("the idempotency key was used for another note")

// OnceKey is an idempotency key as it is stored.
type OnceKey struct {
	// Digest is SHA-256 of the client's key, in hex.
	Digest  string
	Expires time.Time
}

// CreateOnce is Create under a client's idempotency key: when the same client sends the same again, the
// note of the first time is returned, and repeated is true. Errors: ErrOnceKeyReused, and those of Create.
//
// Nothing of the text is kept to compare with: what the note is now is compared, as long as it has not
// been changed or deleted since.
func (s *Service) CreateOnce(ctx context.Context, id sessions.Identity, key string, text Text) (_ Note, repeated bool, err error) {
	digest := sha256.Sum256([]byte(key))
	var stored Summary
	n, err := s.create(ctx, id, text, func(n Sealed) (err error) {
		stored, err = s.store.CreateNoteOnce(ctx, id, s.now(), n,
			OnceKey{Digest: hex.EncodeToString(digest[:]), Expires: n.CreatedAt.Add(onceFor)})
		return err
	})
	if err != nil || stored.ID == n.ID {
		return n, false, err
	}
	first, err := s.Get(ctx, id, stored.ID)
	switch {
	case errors.Is(err, ErrNotFound): // deleted since
	case err != nil:
		return Note{}, false, err
	case first.Revision == 1 && !first.equal(text):
		return Note{}, false, ErrOnceKeyReused
	}
	return Note{Text: text, ID: stored.ID, Revision: 1, CreatedAt: stored.CreatedAt, UpdatedAt: stored.CreatedAt}, true, nil
}

func (t Text) equal(other Text) bool {
	return t.Content == other.Content && t.Title == other.Title && slices.Equal(t.Tags, other.Tags)
}
