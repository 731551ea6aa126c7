package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/securenotes/securenotes/app/internal/accounts"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// CreateSession creates a session, if the user's password hash and second factor are still those
// that were verified: a change of either ends the earlier sessions, so none may begin after it. It
// consumes the proof and ends the oldest sessions beyond accounts.MaxSessions. Errors:
// accounts.ErrInvalidCredentials, accounts.ErrInvalidCode, ErrRestored.
func (c *core) CreateSession(ctx context.Context, session sessions.Session, user accounts.User, proof accounts.Proof) error {
	asExpected, args := c.asExpected(7, "")
	args = append([]any{
		session.Owner, session.Identity.Session, micros(session.CreatedAt), micros(session.ExpiresAt), user.PasswordHash, nullable(user.SecondFactor),
	}, args...)
	begun := c.exists(ctx, "SELECT count(*) FROM sessions WHERE owner = $1 AND id = $2", session.Owner, session.Identity.Session)
	return c.transactUntilKnown(ctx, begun, func(tx queryer) error {
		// The lock on the user's row serializes two logins, so that each counts the other's
		// session.
		changed, err := c.execIn(ctx, tx, `INSERT INTO sessions (owner, id, created_at, expires_at)
			SELECT u.id, $2, $3, $4 FROM users u WHERE u.id = $1 AND u.password_hash = $5 AND u.second_factor IS NOT DISTINCT FROM $6
			AND `+asExpected+c.dialect.lockExclusive(), args...)
		if err != nil {
			return err
		}
		if changed == 0 {
			if err := c.checkExpected(ctx, tx); err != nil {
				return err
			}
			return accounts.ErrInvalidCredentials
		}
		if err := c.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		_, err = c.execIn(ctx, tx, `DELETE FROM sessions WHERE owner = $1 AND id <> $2 AND (created_at, id) <
			(SELECT created_at, id FROM sessions WHERE owner = $1 AND expires_at > $3 ORDER BY created_at DESC, id DESC LIMIT 1 OFFSET $4)`,
			session.Owner, session.Identity.Session, micros(session.CreatedAt), accounts.MaxSessions-1)
		return err
	})
}

// Sessions returns the user's live sessions, newest first. Error: sessions.ErrInvalid.
func (c *core) Sessions(ctx context.Context, id sessions.Identity, now time.Time) ([]sessions.Session, error) {
	var list []sessions.Session
	err := c.rows(ctx, `SELECT o.id, o.created_at, o.expires_at FROM sessions s JOIN sessions o ON o.owner = s.owner AND o.expires_at > $3
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

// EndSession ends a session and reports whether it was live.
func (c *core) EndSession(ctx context.Context, id sessions.Identity, now time.Time) (bool, error) {
	changed, err := c.exec(ctx, "DELETE FROM sessions WHERE owner = $1 AND id = $2 AND expires_at > $3", id.Owner, id.Session, micros(now))
	return changed > 0, err
}

// RevokeOther ends another session of the user, if the session id is live, and consumes the proof.
// Errors: sessions.ErrInvalid, sessions.ErrNotFound, accounts.ErrInvalidCode.
func (c *core) RevokeOther(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof, session string) error {
	revoked := c.exists(ctx, "SELECT 1 - count(*) FROM sessions WHERE owner = $1 AND id = $2", id.Owner, session)
	return c.transactUntilKnown(ctx, revoked, func(tx queryer) error {
		changed, err := c.execIn(ctx, tx, `DELETE FROM sessions WHERE owner = $1 AND id = $3
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $4)`,
			id.Owner, id.Session, session, micros(now))
		if err != nil {
			return err
		}
		if changed == 0 {
			if _, err := c.confirmedFactor(ctx, tx, id, now); err != nil {
				return err
			}
			return sessions.ErrNotFound
		}
		return c.useProof(ctx, tx, user, proof)
	})
}

// DeleteExpiredSessions implements Administration.
func (c *core) DeleteExpiredSessions(ctx context.Context, now time.Time, limit int) (int64, error) {
	return c.exec(ctx, `DELETE FROM sessions WHERE (owner, id) IN
		(SELECT owner, id FROM sessions WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2)`, micros(now), limit)
}
