package notes

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/pepper"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// oneNote is a store of one note. Another write changes the note between two calls.
type oneNote struct {
	Store
	key  envelope.StoredKey
	note Sealed
	// reads counts the calls of Note; afterRead is called after each of them.
	reads     int
	afterRead func(reads int)
}

func (s *oneNote) ActiveKey(context.Context, sessions.Identity, time.Time) (envelope.StoredKey, error) {
	return s.key, nil
}

func (s *oneNote) Note(context.Context, sessions.Identity, time.Time, string) (Sealed, envelope.StoredKey, error) {
	found := s.note
	s.reads++
	s.afterRead(s.reads)
	return found, s.key, nil
}

func (s *oneNote) UpdateNote(_ context.Context, _ sessions.Identity, _ time.Time, n Sealed) (bool, error) {
	if s.note.Revision != n.Revision-1 {
		return false, nil
	}
	s.note = n
	return true, nil
}

func (s *oneNote) Usage(context.Context, sessions.Identity, time.Time) (Usage, error) {
	return Usage{Notes: 1, Bytes: s.note.size()}, nil
}

// CountSeals implements envelope.KeyRows.
func (s *oneNote) CountSeals(context.Context, envelope.StoredKey, int64) (int64, error) {
	return 1, nil
}

// SucceedKey implements envelope.KeyRows.
func (s *oneNote) SucceedKey(context.Context, envelope.StoredKey, envelope.StoredKey, time.Time) error {
	return nil
}

// TestQuotaHoldsForOvertakenUpdates: an update beyond the quota stores nothing, even if the
// revision that it replaces appears or disappears after its size was compared.
func TestQuotaHoldsForOvertakenUpdates(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for name, tc := range map[string]struct {
		// revision is the condition of the update. The note has revision 1.
		revision int64
		// after is the read after which another write increments the revision.
		after int
		size  int
		// exceeded means that the error is a *QuotaError.
		exceeded bool
		want     error
	}{
		"the revision appears":        {revision: 2, after: 1, size: 2 * limit, want: ErrStale},
		"the revision disappears":     {revision: 1, after: 1, size: 600, want: ErrStale},
		"unconditional and too large": {after: 1, size: 2 * limit, exceeded: true},
		"unconditional, and it fits":  {after: 1, size: 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			local, err := envelope.OpenLocal(filepath.Join(t.TempDir(), "master.key"))
			if err != nil {
				t.Fatal(err)
			}
			s := &oneNote{note: Sealed{ID: uuid.NewString(), Revision: 1, Content: make([]byte, 500)}}
			cache := envelope.NewCache(envelope.NewKeyring("d1", local), s)
			id := sessions.Identity{Owner: uuid.NewString(), Session: uuid.NewString()}
			if s.key, err = cache.Generate(t.Context(), id.Owner); err != nil {
				t.Fatal(err)
			}
			s.afterRead = func(reads int) {
				if reads == tc.after {
					s.note.Revision++
				}
			}
			service := NewService(s, cache, &pepper.Key{}, Usage{Notes: 10, Bytes: limit})
			_, err = service.Update(t.Context(), id, s.note.ID, tc.revision, Text{Content: strings.Repeat("x", tc.size)})
			if _, exceeded := errors.AsType[*QuotaError](err); exceeded != tc.exceeded || !exceeded && !errors.Is(err, tc.want) {
				t.Errorf("error %v, want %v (quota: %t)", err, tc.want, tc.exceeded)
			}
			if size := s.note.size(); size > limit {
				t.Errorf("the note takes %d bytes, and the limit is %d", size, limit)
			}
		})
	}
}
