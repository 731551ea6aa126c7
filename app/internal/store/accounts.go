package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// CreateUser stores a user and the user's first owner key, both or neither. Errors:
// accounts.ErrUsernameTaken, accounts.ErrFenced.
func (s *Store) CreateUser(ctx context.Context, user accounts.User, key envelope.StoredKey) error {
	return s.transact(ctx, func(tx queryer) error {
		_, err := s.execIn(ctx, tx, `INSERT INTO users (id, username, password_hash, pepper_id, created_at)
			VALUES ($1, $2, $3, $4, $5)`,
			user.ID, user.Username, user.PasswordHash, user.PepperID, micros(user.CreatedAt))
		if err != nil {
			return err
		}
		return s.insertActiveKey(ctx, tx, key, user.CreatedAt)
	})
}

func (s *Store) insertActiveKey(ctx context.Context, tx queryer, key envelope.StoredKey, now time.Time) error {
	version, err := key.Wrapped.Version()
	if err != nil {
		return err
	}
	_, err = s.execIn(ctx, tx, `INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		VALUES ($1, $2, $3, $3, $4, 'active', $5)`, key.Owner, key.ID, version, string(key.Wrapped), micros(now))
	return err
}

// UserByName returns a user, or accounts.ErrNotFound.
func (s *Store) UserByName(ctx context.Context, username string) (accounts.User, error) {
	user := accounts.User{Username: username}
	var created int64
	err := s.row(ctx, "SELECT id, password_hash, pepper_id, created_at FROM users WHERE username = $1",
		[]any{username}, &user.ID, &user.PasswordHash, &user.PepperID, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return accounts.User{}, accounts.ErrNotFound
	}
	user.CreatedAt = fromMicros(created)
	return user, err
}

// CreateSession stores a session.
func (s *Store) CreateSession(ctx context.Context, session sessions.Session) error {
	_, err := s.exec(ctx, "INSERT INTO sessions (owner, id, created_at, expires_at) VALUES ($1, $2, $3, $4)",
		session.Owner, session.Session, micros(session.CreatedAt), micros(session.ExpiresAt))
	return err
}

// DeleteSession ends a session; ending one that has ended already is no error.
func (s *Store) DeleteSession(ctx context.Context, identity sessions.Identity) error {
	_, err := s.exec(ctx, "DELETE FROM sessions WHERE owner = $1 AND id = $2", identity.Owner, identity.Session)
	return err
}

// DeleteExpiredSessions removes at most limit sessions that expired before now, and returns how many.
func (s *Store) DeleteExpiredSessions(ctx context.Context, now time.Time, limit int) (int64, error) {
	return s.exec(ctx, `DELETE FROM sessions WHERE (owner, id) IN
		(SELECT owner, id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
