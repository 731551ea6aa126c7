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

// userExists counts the users with an id, for untilKnown.
const userExists = "SELECT count(*) FROM users WHERE id = $1"

// insertActiveKey stores a key as its owner's active one.
func (c *core) insertActiveKey(ctx context.Context, tx queryer, key envelope.StoredKey, now time.Time) error {
	version, err := key.Wrapped.Version()
	if err != nil {
		return err
	}
	_, err = c.execIn(ctx, tx, `INSERT INTO owner_keys (owner, id, kek_version, born_version, wrapped, state, created_at)
		VALUES ($1, $2, $3, $3, $4, 'active', $5)`, key.Owner, key.ID, version, string(key.Wrapped), micros(now))
	return err
}

// UserByName returns a user. Error: accounts.ErrNotFound.
func (c *core) UserByName(ctx context.Context, username string) (accounts.User, error) {
	user := accounts.User{Username: username}
	var created int64
	var factor sql.NullString
	err := c.row(ctx, "SELECT id, password_hash, pepper_id, second_factor, created_at FROM users WHERE username = $1",
		[]any{username}, &user.ID, &user.PasswordHash, &user.PepperID, &factor, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return accounts.User{}, accounts.ErrNotFound
	}
	user.SecondFactor, user.CreatedAt = factor.String, fromMicros(created)
	return user, err
}

// UserBySession returns the user of a live session. Error: sessions.ErrInvalid.
func (c *core) UserBySession(ctx context.Context, id sessions.Identity, now time.Time) (accounts.User, error) {
	user := accounts.User{ID: id.Owner}
	var created int64
	var factor sql.NullString
	err := c.row(ctx, `SELECT u.username, u.password_hash, u.pepper_id, u.second_factor, u.created_at
		FROM sessions s JOIN users u ON u.id = s.owner WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`,
		[]any{id.Owner, id.Session, micros(now)}, &user.Username, &user.PasswordHash, &user.PepperID, &factor, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return accounts.User{}, sessions.ErrInvalid
	}
	user.SecondFactor, user.CreatedAt = factor.String, fromMicros(created)
	return user, err
}

// ReplacePassword stores the user's new hash and ends the user's other sessions, if the session is
// live and the hash and the second factor are still those that were verified. It consumes the
// proof. Errors: sessions.ErrInvalid, accounts.ErrInvalidCredentials, accounts.ErrInvalidCode.
func (c *core) ReplacePassword(ctx context.Context, id sessions.Identity, now time.Time, oldHash string, user accounts.User, proof accounts.Proof) error {
	replaced := c.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND password_hash = $2", user.ID, user.PasswordHash)
	return c.transactUntilKnown(ctx, replaced, func(tx queryer) error {
		changed, err := c.execIn(ctx, tx, `UPDATE users SET password_hash = $3, pepper_id = $4 WHERE id = $1 AND password_hash = $6
			AND second_factor IS NOT DISTINCT FROM $7
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $5)`,
			id.Owner, id.Session, user.PasswordHash, user.PepperID, micros(now), oldHash, nullable(user.SecondFactor))
		if err != nil {
			return err
		}
		if changed == 0 {
			if _, err := c.confirmedFactor(ctx, tx, id, now); err != nil {
				return err
			}
			return accounts.ErrInvalidCredentials // the password has changed since it was verified
		}
		if err := c.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		_, err = c.execIn(ctx, tx, "DELETE FROM sessions WHERE owner = $1 AND id <> $2", id.Owner, id.Session)
		return err
	})
}

// RehashPassword stores a new hash of the same password, if the stored hash is still the old one.
func (c *core) RehashPassword(ctx context.Context, oldHash string, user accounts.User) error {
	asExpected, args := c.asExpected(5, "")
	args = append([]any{user.ID, user.PasswordHash, user.PepperID, oldHash}, args...)
	_, err := c.exec(ctx, "UPDATE users SET password_hash = $2, pepper_id = $3 WHERE id = $1 AND password_hash = $4 AND "+asExpected, args...)
	return err
}

// DeleteUser deletes the user and all of the user's rows, if the session is live and the password's
// hash and the second factor are still those that were verified. It consumes the proof and decrypts
// nothing. Errors: sessions.ErrInvalid, accounts.ErrInvalidCode.
func (c *core) DeleteUser(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	tables, _, err := c.SealedColumns(ctx)
	if err != nil {
		return err
	}
	deleted := c.exists(ctx, "SELECT 1 - count(*) FROM users WHERE id = $1", id.Owner)
	return c.transactUntilKnown(ctx, deleted, func(tx queryer) error {
		var owner string
		err := c.rowIn(ctx, tx, `SELECT u.id FROM users u JOIN sessions s ON s.owner = u.id AND s.id = $2 AND s.expires_at > $3
			WHERE u.id = $1 AND u.password_hash = $4 AND u.second_factor IS NOT DISTINCT FROM $5`+c.dialect.lockExclusive(),
			[]any{id.Owner, id.Session, micros(now), user.PasswordHash, nullable(user.SecondFactor)}, &owner)
		if errors.Is(err, sql.ErrNoRows) {
			return sessions.ErrInvalid
		}
		if err != nil {
			return err
		}
		if err := c.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		// The sessions first, so that no new write begins; then the sealed rows; then their keys.
		statements := []string{"DELETE FROM sessions WHERE owner = $1"}
		for _, table := range tables {
			statements = append(statements, "DELETE FROM "+table.Name+" WHERE owner = $1")
		}
		statements = append(statements, "DELETE FROM owner_keys WHERE owner = $1", "DELETE FROM users WHERE id = $1")
		for _, statement := range statements {
			if _, err := c.execIn(ctx, tx, statement, id.Owner); err != nil {
				if errors.Is(err, errForeignKey) {
					// A write that began earlier has just committed. Retry the whole transaction.
					err = fmt.Errorf("%w: %w", errRetry, err)
				}
				return err
			}
		}
		return nil
	})
}
