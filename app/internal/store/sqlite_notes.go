package store

import (
	"context"
	"errors"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/batch"
	"github.com/securenotes/securenotes/app/internal/envelope"
)

// CreateUser stores a user and the user's first owner key, or neither. Errors:
// accounts.ErrUsernameTaken, accounts.ErrFenced, ErrRestored.
func (s *sqliteStore) CreateUser(ctx context.Context, user accounts.User, key envelope.StoredKey) error {
	created := s.exists(ctx, userExists, user.ID)
	return s.transactUntilKnown(ctx, created, func(tx queryer) error {
		if err := s.checkExpected(ctx, tx); err != nil {
			return err
		}
		_, err := s.execIn(ctx, tx, `INSERT INTO users (id, username, password_hash, pepper_id, created_at) VALUES ($1, $2, $3, $4, $5)`,
			user.ID, user.Username, user.PasswordHash, user.PepperID, micros(user.CreatedAt))
		if err != nil {
			return err
		}
		return s.insertActiveKey(ctx, tx, key, user.CreatedAt)
	})
}

// createNotes creates the notes of concurrent requests in one transaction, which waits for the disk
// once.
func (s *sqliteStore) createNotes(ctx context.Context, list []creation) []batch.Result[struct{}] {
	stored := make(map[string]bool, len(list))
	err := s.transactOnce(ctx, func(tx queryer) error {
		for _, c := range list {
			err := s.createNoteIn(ctx, tx, c.id, c.now, c.note)
			if err != nil && !errors.Is(err, envelope.ErrKeyNotActive) {
				return err
			}
			stored[c.note.ID] = err == nil
		}
		return nil
	})
	return creationResults(list, stored, err)
}

// readNotes reads one note after another: SQLite is in this process, so there is no round trip to
// save.
func (s *sqliteStore) readNotes(ctx context.Context, list []reading) []batch.Result[readNote] {
	results := make([]batch.Result[readNote], len(list))
	for i, r := range list {
		results[i] = s.selectNote(ctx, r)
	}
	return results
}
