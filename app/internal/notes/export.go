package notes

import (
	"context"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// exportPage is how many notes an export reads at once, if they are small; the store bounds their
// bytes.
const exportPage = 20

// Export calls visit with the owner's notes, opened and newest first, page by page. perPage bounds
// the time to read and open a page. Notes that are written meanwhile may be missing. Errors:
// sessions.ErrInvalid, context.DeadlineExceeded, and visit's.
func (s *Service) Export(ctx context.Context, id sessions.Identity, perPage time.Duration, visit func([]Note) error) error {
	before, limit := "", exportPage
	for {
		page, err := s.readPage(ctx, id, perPage, before, limit)
		if err != nil || page.found == 0 {
			return err
		}
		if err := visit(page.notes); err != nil {
			return err
		}
		// The store returns fewer notes when they are large. Do not read many more the next time.
		before, limit = page.last, min(2*page.found, exportPage)
	}
}

// page is a page of an export. Notes that were deleted while it was read are found, but not in
// notes.
type page struct {
	notes []Note
	found int
	// last is the id of the last note that was found.
	last string
}

// readPage reads and decrypts at most limit notes: the next ones that are older than the note whose
// id is before. It must finish within timeout.
func (s *Service) readPage(ctx context.Context, id sessions.Identity, timeout time.Duration, before string, limit int) (page, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, keys, err := s.store.SealedNotes(ctx, id, s.now(), before, limit)
	if err != nil || len(found) == 0 {
		return page{}, err
	}
	p := page{found: len(found), last: found[len(found)-1].ID}
	for i, sealed := range found {
		note, err := s.openOrRead(ctx, id, sealed, keys[i])
		if errors.Is(err, ErrNotFound) {
			continue // deleted since the page was read
		}
		if err != nil {
			return page{}, err
		}
		p.notes = append(p.notes, note)
	}
	return p, nil
}

// openOrRead opens a note. It reads the note again if a rotation has rewrapped its key since.
func (s *Service) openOrRead(ctx context.Context, id sessions.Identity, sealed Sealed, stored envelope.StoredKey) (Note, error) {
	key, err := s.keys.Key(ctx, stored)
	if errors.Is(err, envelope.ErrRefused) {
		return s.Get(ctx, id, sealed.ID)
	}
	if err != nil {
		return Note{}, err
	}
	text, err := sealed.open(key)
	if err != nil {
		return Note{}, err
	}
	return sealed.note(text), nil
}
