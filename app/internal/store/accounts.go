package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// CreateUser stores a user and the user's first owner key, both or neither. Errors:
// accounts.ErrUsernameTaken, accounts.ErrFenced.
func (s *Store) CreateUser(ctx context.Context, user accounts.User, key envelope.StoredKey) error {
	version, err := key.Wrapped.Version()
	if err != nil {
		return err
	}
	created := s.exists(ctx, "SELECT count(*) FROM users WHERE id = $1", user.ID)
	return s.untilKnown(ctx, created, func() error {
		return s.again(ctx, func() error { return s.dialect.insertUser(ctx, s, user, key, version) })
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
	var factor sql.NullString
	err := s.row(ctx, "SELECT id, password_hash, pepper_id, second_factor, created_at FROM users WHERE username = $1",
		[]any{username}, &user.ID, &user.PasswordHash, &user.PepperID, &factor, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return accounts.User{}, accounts.ErrNotFound
	}
	user.SecondFactor, user.CreatedAt = factor.String, fromMicros(created)
	return user, err
}

// UserBySession returns whose live session it is. Errors: sessions.ErrInvalid.
func (s *Store) UserBySession(ctx context.Context, id sessions.Identity, now time.Time) (accounts.User, error) {
	user := accounts.User{ID: id.Owner}
	var created int64
	var factor sql.NullString
	err := s.row(ctx, `SELECT u.username, u.password_hash, u.pepper_id, u.second_factor, u.created_at
		FROM sessions s JOIN users u ON u.id = s.owner WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`,
		[]any{id.Owner, id.Session, micros(now)}, &user.Username, &user.PasswordHash, &user.PepperID, &factor, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return accounts.User{}, sessions.ErrInvalid
	}
	user.SecondFactor, user.CreatedAt = factor.String, fromMicros(created)
	return user, err
}

// ReplacePassword stores the user's new hash and ends the user's other sessions, if the session
// lives and the hash and the second factor are still those that were verified. The proof is used up with it.
// Errors: sessions.ErrInvalid, accounts.ErrInvalidCredentials, accounts.ErrInvalidCode.
func (s *Store) ReplacePassword(ctx context.Context, id sessions.Identity, now time.Time, oldHash string, user accounts.User, proof accounts.Proof) error {
	replaced := s.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND password_hash = $2", user.ID, user.PasswordHash)
	return s.transactUntilKnown(ctx, replaced, func(tx queryer) error {
		changed, err := s.execIn(ctx, tx, `UPDATE users SET password_hash = $3, pepper_id = $4 WHERE id = $1 AND password_hash = $6
			AND second_factor IS NOT DISTINCT FROM $7
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $5)`,
			id.Owner, id.Session, user.PasswordHash, user.PepperID, micros(now), oldHash, nullable(user.SecondFactor))
		if err != nil {
			return err
		}
		if changed == 0 {
			if _, err := s.confirmedFactor(ctx, tx, id, now); err != nil {
				return err
			}
			return accounts.ErrInvalidCredentials // what was verified is no longer so
		}
		if err := s.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		_, err = s.execIn(ctx, tx, "DELETE FROM sessions WHERE owner = $1 AND id <> $2", id.Owner, id.Session)
		return err
	})
}

// RehashPassword stores a new hash of the same password, if the old one is still there.
func (s *Store) RehashPassword(ctx context.Context, oldHash string, user accounts.User) error {
	_, err := s.exec(ctx, "UPDATE users SET password_hash = $2, pepper_id = $3 WHERE id = $1 AND password_hash = $4",
		user.ID, user.PasswordHash, user.PepperID, oldHash)
	return err
}

// DeleteUser deletes the user and everything of the user's, if the session lives and the password's
// hash and the second factor are those that were verified. The proof is used up with it. Nothing is
// decrypted. Errors: sessions.ErrInvalid, accounts.ErrInvalidCode.
func (s *Store) DeleteUser(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	tables, _, err := s.SealedColumns(ctx)
	if err != nil {
		return err
	}
	deleted := s.exists(ctx, "SELECT 1 - count(*) FROM users WHERE id = $1", id.Owner)
	return s.transactUntilKnown(ctx, deleted, func(tx queryer) error {
		var owner string
		err := s.rowIn(ctx, tx, `SELECT u.id FROM users u JOIN sessions s ON s.owner = u.id AND s.id = $2 AND s.expires_at > $3
			WHERE u.id = $1 AND u.password_hash = $4 AND u.second_factor IS NOT DISTINCT FROM $5`+s.dialect.lockExclusive(),
			[]any{id.Owner, id.Session, micros(now), user.PasswordHash, nullable(user.SecondFactor)}, &owner)
		if errors.Is(err, sql.ErrNoRows) {
			return sessions.ErrInvalid
		}
		if err != nil {
			return err
		}
		if err := s.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		// The sessions first, so that no write begins any more; then what is sealed; then its keys.
		statements := []string{"DELETE FROM sessions WHERE owner = $1"}
		for _, table := range tables {
			statements = append(statements, "DELETE FROM "+table.Name+" WHERE owner = $1")
		}
		statements = append(statements, "DELETE FROM owner_keys WHERE owner = $1", "DELETE FROM users WHERE id = $1")
		for _, statement := range statements {
			if _, err := s.execIn(ctx, tx, statement, id.Owner); err != nil {
				if errors.Is(err, errStillNeeded) {
					// A write that had begun before has committed in between: all of it again.
					err = fmt.Errorf("%w: %w", errRetry, err)
				}
				return err
			}
		}
		return nil
	})
}

// CreateSession begins a session, if the user's password hash and second factor are still those that were
// verified: whoever changes a password must find no session of the old one afterwards, and whoever confirms a
// second factor none that was begun without it. The proof is used up with it, and the user's oldest sessions
// end where there would be more than accounts.MaxSessions. Errors: accounts.ErrInvalidCredentials,
// accounts.ErrInvalidCode.
func (s *Store) CreateSession(ctx context.Context, session sessions.Session, user accounts.User, proof accounts.Proof) error {
	begun := s.exists(ctx, "SELECT count(*) FROM sessions WHERE owner = $1 AND id = $2", session.Owner, session.Identity.Session)
	return s.transactUntilKnown(ctx, begun, func(tx queryer) error {
		// The user's row is the lock between two logins, so that each counts the other's session.
		changed, err := s.execIn(ctx, tx, `INSERT INTO sessions (owner, id, created_at, expires_at)
			SELECT u.id, $2, $3, $4 FROM users u WHERE u.id = $1 AND u.password_hash = $5 AND u.second_factor IS NOT DISTINCT FROM $6`+s.dialect.lockExclusive(),
			session.Owner, session.Identity.Session, micros(session.CreatedAt), micros(session.ExpiresAt), user.PasswordHash, nullable(user.SecondFactor))
		if err != nil {
			return err
		}
		if changed == 0 {
			return accounts.ErrInvalidCredentials
		}
		if err := s.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		_, err = s.execIn(ctx, tx, `DELETE FROM sessions WHERE owner = $1 AND id <> $2 AND (created_at, id) <
			(SELECT created_at, id FROM sessions WHERE owner = $1 AND expires_at > $3 ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET $4)`,
			session.Owner, session.Identity.Session, micros(session.CreatedAt), accounts.MaxSessions-1)
		return err
	})
}

// Sessions lists the user's live sessions, newest first. Errors: sessions.ErrInvalid.
func (s *Store) Sessions(ctx context.Context, id sessions.Identity, now time.Time) ([]sessions.Session, error) {
	var list []sessions.Session
	err := s.rows(ctx, s.db, `SELECT o.id, o.created_at, o.expires_at FROM sessions s JOIN sessions o ON o.owner = s.owner AND o.expires_at > $3
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3 ORDER BY o.id DESC LIMIT 1000`,
		[]any{id.Owner, id.Session, micros(now)}, func(rows *sql.Rows) error {
			found := sessions.Session{Identity: sessions.Identity{Owner: id.Owner}}
			var created, expires int64
			if err := rows.Scan(&found.Identity.Session, &created, &expires); err != nil {
				return err
			}
			found.CreatedAt, found.ExpiresAt = fromMicros(created), fromMicros(expires)
			list = append(list, found)
			return nil
		})
	if err == nil && len(list) == 0 {
		err = sessions.ErrInvalid
	}
	return list, err
}

// EndSession ends a session if it lives, and reports whether it did.
func (s *Store) EndSession(ctx context.Context, id sessions.Identity, now time.Time) (bool, error) {
	changed, err := s.exec(ctx, "DELETE FROM sessions WHERE owner = $1 AND id = $2 AND expires_at > $3", id.Owner, id.Session, micros(now))
	return changed > 0, err
}

// RevokeOther ends another session of the user, if the user's own lives, and uses the proof up.
// Errors: sessions.ErrInvalid, sessions.ErrNotFound, accounts.ErrInvalidCode.
func (s *Store) RevokeOther(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof, session string) error {
	revoked := s.exists(ctx, "SELECT 1 - count(*) FROM sessions WHERE owner = $1 AND id = $2", id.Owner, session)
	return s.transactUntilKnown(ctx, revoked, func(tx queryer) error {
		changed, err := s.execIn(ctx, tx, `DELETE FROM sessions WHERE owner = $1 AND id = $3
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4)`,
			id.Owner, id.Session, session, micros(now))
		if err != nil {
			return err
		}
		if changed == 0 {
			if _, err := s.confirmedFactor(ctx, tx, id, now); err != nil {
				return err
			}
			return sessions.ErrNotFound
		}
		return s.useProof(ctx, tx, user, proof)
	})
}

// DeleteExpiredSessions removes at most limit sessions that expired before now, and returns how many.
func (s *Store) DeleteExpiredSessions(ctx context.Context, now time.Time, limit int) (int64, error) {
	return s.exec(ctx, `DELETE FROM sessions WHERE (owner, id) IN
		(SELECT owner, id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
