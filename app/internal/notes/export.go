package notes

import (
	"context"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// exportPage is how many notes an export reads at once, if they are small; the store bounds their bytes.
const exportPage = 20

// Export calls visit with page after page of the owner's notes, opened, newest first. To read and open a page
// may take perPage. Notes that are written meanwhile may be missing. Errors: sessions.ErrInvalid,
// context.DeadlineExceeded, and visit's.
func (s *Service) Export(ctx context.Context, id sessions.Identity, perPage time.Duration, visit func([]Note) error) error {
	before, limit := "", exportPage
	for {
		page, last, found, err := s.exported(ctx, id, perPage, before, limit)
		if err != nil || found == 0 {
			return err
		}
		if err := visit(page); err != nil {
			return err
		}
		// What the store has left out because the notes are large is not asked for in vain again.
		before, limit = last, min(2*found, exportPage)
	}
}

// exported is the page of notes before the id given, the id of the last note found, and how many were found.
func (s *Service) exported(ctx context.Context, id sessions.Identity, most time.Duration, before string, limit int) (page []Note, last string, n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	found, keys, err := s.store.SealedNotes(ctx, id, s.now(), before, limit)
	if err != nil || len(found) == 0 {
		return nil, "", 0, err
	}
	for i, sealed := range found {
		note, err := s.opened(ctx, id, sealed, keys[i])
		if errors.Is(err, ErrNotFound) {
			continue // deleted since the page was read
		}
		if err != nil {
			return nil, "", 0, err
		}
		page = append(page, note)
	}
	return page, found[len(found)-1].ID, len(found), nil
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
