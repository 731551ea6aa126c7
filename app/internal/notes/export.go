package notes

import (
	"context"
	"errors"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// exportPage is how many notes an export holds in memory at once, at most 400 KiB each.
const exportPage = 20

// Export calls visit with each of the owner's notes, opened, newest first. Notes that are written
// meanwhile may be missing. Errors: sessions.ErrInvalid, and visit's.
func (s *Service) Export(ctx context.Context, id sessions.Identity, visit func(Note) error) error {
	before := ""
	for {
		page, keys, err := s.store.SealedNotes(ctx, id, s.now(), before, exportPage)
		if err != nil || len(page) == 0 {
			return err
		}
		for i, sealed := range page {
			note, err := s.opened(ctx, id, sealed, keys[i])
			if errors.Is(err, ErrNotFound) {
				continue // deleted since the page was read
			}
			if err != nil {
				return err
			}
			if err := visit(note); err != nil {
				return err
			}
		}
		before = page[len(page)-1].ID
	}
}

// opened opens a note as it was read, or, when a rotation has moved it since, as it is now.
func (s *Service) opened(ctx context.Context, id sessions.Identity, sealed Sealed, stored envelope.StoredKey) (Note, error) {
	key, err := s.keys.Key(ctx, stored)
	if errors.Is(err, envelope.ErrRefused) {
		return s.Get(ctx, id, sealed.ID)
	}
	if err != nil {
		return Note{}, err
	}
	text, err := sealed.open(key)
	return sealed.note(text), err
}
