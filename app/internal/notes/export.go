package notes

import (
	"context"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// exportPage is how many notes an export holds in memory at once, at most 400 KiB each.
const exportPage = 20

// Export calls visit with page after page of the owner's notes, opened, newest first. To read and open a page
// may take perPage. Notes that are written meanwhile may be missing. Errors: sessions.ErrInvalid,
// context.DeadlineExceeded, and visit's.
func (s *Service) Export(ctx context.Context, id sessions.Identity, perPage time.Duration, visit func([]Note) error) error {
	for before, more := "", true; more; {
		var page []Note
		var err error
		if page, before, more, err = s.exported(ctx, id, perPage, before); err != nil {
			return err
		}
		if err := visit(page); err != nil {
			return err
		}
	}
	return nil
}

// exported is the page of notes before the id given, the id of its last note, and whether there may be more.
func (s *Service) exported(ctx context.Context, id sessions.Identity, limit time.Duration, before string) (page []Note, last string, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, keys, err := s.store.SealedNotes(ctx, id, s.now(), before, exportPage)
	if err != nil || len(found) == 0 {
		return nil, "", false, err
	}
	for i, sealed := range found {
		note, err := s.opened(ctx, id, sealed, keys[i])
		if errors.Is(err, ErrNotFound) {
			continue // deleted since the page was read
		}
		if err != nil {
			return nil, "", false, err
		}
		page = append(page, note)
	}
	return page, found[len(found)-1].ID, true, nil
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
