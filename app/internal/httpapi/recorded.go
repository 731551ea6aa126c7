package httpapi

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// RecordAccounts returns a store that writes the request's line of intent to the audit log before
// it commits anything. The store does this and not the handlers, because it is called only after
// all limits and checks.
func RecordAccounts(store accounts.Store) accounts.Store { return recordedAccounts{store} }

// RecordNotes is [RecordAccounts] for notes.
func RecordNotes(store notes.Store) notes.Store { return recordedNotes{store} }

type recordedAccounts struct{ accounts.Store }

// CreateUser implements accounts.Store.
func (s recordedAccounts) CreateUser(ctx context.Context, user accounts.User, key envelope.StoredKey) error {
	ctx, done, err := intend(ctx, user.ID, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.CreateUser(ctx, user, key)
}

// ReplacePassword implements accounts.Store.
func (s recordedAccounts) ReplacePassword(ctx context.Context, id sessions.Identity, now time.Time, oldHash string, user accounts.User, proof accounts.Proof) error {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.ReplacePassword(ctx, id, now, oldHash, user, proof)
}

// DeleteUser implements accounts.Store.
func (s recordedAccounts) DeleteUser(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.DeleteUser(ctx, id, now, user, proof)
}

// CreateSession implements accounts.Store.
func (s recordedAccounts) CreateSession(ctx context.Context, session sessions.Session, user accounts.User, proof accounts.Proof) error {
	ctx, done, err := intend(ctx, session.Owner, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.CreateSession(ctx, session, user, proof)
}

// EndSession implements accounts.Store.
func (s recordedAccounts) EndSession(ctx context.Context, id sessions.Identity, now time.Time) (bool, error) {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return false, err
	}
	defer done()
	return s.Store.EndSession(ctx, id, now)
}

// RevokeOther implements accounts.Store.
func (s recordedAccounts) RevokeOther(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof, session string) error {
	ctx, done, err := intend(ctx, id.Owner, session)
	if err != nil {
		return err
	}
	defer done()
	return s.Store.RevokeOther(ctx, id, now, user, proof, session)
}

// ProposeSecondFactor implements accounts.Store.
func (s recordedAccounts) ProposeSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor accounts.SecondFactor) (bool, error) {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return false, err
	}
	defer done()
	return s.Store.ProposeSecondFactor(ctx, id, now, factor)
}

// ConfirmSecondFactor implements accounts.Store.
func (s recordedAccounts) ConfirmSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor string, proof accounts.Proof, recovery []string) error {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.ConfirmSecondFactor(ctx, id, now, factor, proof, recovery)
}

// RemoveSecondFactor implements accounts.Store.
func (s recordedAccounts) RemoveSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	ctx, done, err := intend(ctx, id.Owner, "")
	if err != nil {
		return err
	}
	defer done()
	return s.Store.RemoveSecondFactor(ctx, id, now, user, proof)
}

type recordedNotes struct{ notes.Store }

// CreateNote implements notes.Store.
func (s recordedNotes) CreateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) error {
	ctx, done, err := intend(ctx, id.Owner, n.ID)
	if err != nil {
		return err
	}
	defer done()
	return s.Store.CreateNote(ctx, id, now, n)
}

// CreateNoteIdempotent implements notes.Store.
func (s recordedNotes) CreateNoteIdempotent(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed, key notes.IdempotencyKey) (notes.First, error) {
	ctx, done, err := intend(ctx, id.Owner, n.ID)
	if err != nil {
		return notes.First{}, err
	}
	defer done()
	return s.Store.CreateNoteIdempotent(ctx, id, now, n, key)
}

// FirstNote implements notes.Store. It commits nothing, but its note answers the retry of a
// creation.
func (s recordedNotes) FirstNote(ctx context.Context, id sessions.Identity, now time.Time, key notes.IdempotencyKey) (notes.First, bool, error) {
	first, found, err := s.Store.FirstNote(ctx, id, now, key)
	if err != nil || !found {
		return first, found, err
	}
	_, done, err := intend(ctx, id.Owner, first.ID)
	if err != nil {
		return first, found, err
	}
	done()
	return first, true, nil
}

// UpdateNote implements notes.Store.
func (s recordedNotes) UpdateNote(ctx context.Context, id sessions.Identity, now time.Time, n notes.Sealed) (bool, error) {
	ctx, done, err := intend(ctx, id.Owner, n.ID)
	if err != nil {
		return false, err
	}
	defer done()
	return s.Store.UpdateNote(ctx, id, now, n)
}

// DeleteNote implements notes.Store.
func (s recordedNotes) DeleteNote(ctx context.Context, id sessions.Identity, now time.Time, note string, revision int64) (bool, error) {
	ctx, done, err := intend(ctx, id.Owner, note)
	if err != nil {
		return false, err
	}
	defer done()
	return s.Store.DeleteNote(ctx, id, now, note, revision)
}
