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

// ProposeSecondFactor implements accounts.SecondFactorStore.
func (c *core) ProposeSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor accounts.SecondFactor) (bool, error) {
	stored := false
	err := c.transact(ctx, func(tx queryer) error {
		stored = false
		var confirmed sql.NullString
		// The lock on the user's row serializes a proposal and a confirmation.
		err := c.rowIn(ctx, tx, `SELECT u.second_factor FROM users u WHERE u.id = $1
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3)`+c.dialect.lockExclusive(),
			[]any{id.Owner, id.Session, micros(now)}, &confirmed)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return sessions.ErrInvalid
		case err != nil:
			return err
		case confirmed.Valid:
			return accounts.ErrSecondFactorExists
		}
		if _, err := c.execIn(ctx, tx, "DELETE FROM second_factors WHERE owner = $1", id.Owner); err != nil {
			return err
		}
		changed, err := c.execIn(ctx, tx, `INSERT INTO second_factors (owner, id, key_id, revision, seed, last_step, created_at)
			SELECT k.owner, $2, k.id, 1, $4, 0, $5 FROM owner_keys k WHERE k.owner = $1 AND k.id = $3 AND k.state = 'active'`,
			id.Owner, factor.ID, factor.KeyID, factor.Seed, micros(factor.CreatedAt))
		stored = changed > 0
		return err
	})
	if errors.Is(err, errForeignKey) {
		return false, nil // the owner key has been deleted
	}
	return stored, err
}

// SecondFactor implements accounts.SecondFactorStore.
func (c *core) SecondFactor(ctx context.Context, owner string) (accounts.SecondFactor, envelope.StoredKey, error) {
	var factor accounts.SecondFactor
	var created int64
	key := envelope.StoredKey{Owner: owner}
	err := c.row(ctx, `SELECT f.id, f.key_id, f.seed, f.last_step, f.created_at, k.wrapped
		FROM second_factors f JOIN owner_keys k ON k.owner = f.owner AND k.id = f.key_id WHERE f.owner = $1`,
		[]any{owner}, &factor.ID, &factor.KeyID, &factor.Seed, &factor.LastStep, &created, (*string)(&key.Wrapped))
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoSecondFactor
	}
	key.ID, factor.CreatedAt = factor.KeyID, fromMicros(created)
	return factor, key, err
}

// ConfirmSecondFactor implements accounts.SecondFactorStore.
func (c *core) ConfirmSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor string, proof accounts.Proof, recovery []string) error {
	confirmed := c.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND second_factor = $2", id.Owner, factor)
	return c.transactUntilKnown(ctx, confirmed, func(tx queryer) error {
		if err := c.setSecondFactor(ctx, tx, id, now, "", factor); err != nil {
			return err
		}
		if err := c.useProof(ctx, tx, accounts.User{ID: id.Owner, SecondFactor: factor}, proof); err != nil {
			return err
		}
		if _, err := c.execIn(ctx, tx, "DELETE FROM recovery_codes WHERE owner = $1", id.Owner); err != nil {
			return err
		}
		for _, digest := range recovery {
			if _, err := c.execIn(ctx, tx, "INSERT INTO recovery_codes (owner, digest) VALUES ($1, $2)", id.Owner, digest); err != nil {
				return err
			}
		}
		_, err := c.execIn(ctx, tx, "DELETE FROM sessions WHERE owner = $1 AND id <> $2", id.Owner, id.Session)
		return err
	})
}

// RemoveSecondFactor implements accounts.SecondFactorStore.
func (c *core) RemoveSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	removed := c.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND second_factor IS NULL", id.Owner)
	return c.transactUntilKnown(ctx, removed, func(tx queryer) error {
		if err := c.setSecondFactor(ctx, tx, id, now, user.SecondFactor, ""); err != nil {
			return err
		}
		if err := c.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		for _, statement := range []string{"DELETE FROM second_factors WHERE owner = $1", "DELETE FROM recovery_codes WHERE owner = $1"} {
			if _, err := c.execIn(ctx, tx, statement, id.Owner); err != nil {
				return err
			}
		}
		return nil
	})
}

// setSecondFactor replaces the user's confirmed factor from by to, where an empty id means none, if
// the session is live. It writes the user's row, so that a login that began earlier fails if it
// read another factor.
func (c *core) setSecondFactor(ctx context.Context, tx queryer, id sessions.Identity, now time.Time, from, to string) error {
	changed, err := c.execIn(ctx, tx, `UPDATE users SET second_factor = $4 WHERE id = $1 AND second_factor IS NOT DISTINCT FROM $5
		AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3)`,
		id.Owner, id.Session, micros(now), nullable(to), nullable(from))
	if err != nil || changed > 0 {
		return err
	}
	confirmed, err := c.confirmedFactor(ctx, tx, id, now)
	switch {
	case err != nil:
		return err
	case confirmed:
		return accounts.ErrSecondFactorExists
	}
	return accounts.ErrNoSecondFactor
}

// confirmedFactor reports whether the session's user has a second factor. Error:
// sessions.ErrInvalid.
func (c *core) confirmedFactor(ctx context.Context, tx queryer, id sessions.Identity, now time.Time) (bool, error) {
	var factor sql.NullString
	err := c.rowIn(ctx, tx, `SELECT u.second_factor FROM sessions s JOIN users u ON u.id = s.owner
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`, []any{id.Owner, id.Session, micros(now)}, &factor)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	return factor.Valid, err
}

// useProof consumes a proof of the user's second factor, if the user has one. A code's time step
// must be later than the last one that was used. A recovery code is deleted. Error:
// accounts.ErrInvalidCode.
func (c *core) useProof(ctx context.Context, tx queryer, user accounts.User, proof accounts.Proof) error {
	if user.SecondFactor == "" {
		return nil
	}
	if proof.Step > 0 {
		changed, err := c.execIn(ctx, tx, "UPDATE second_factors SET last_step = $3 WHERE owner = $1 AND id = $2 AND last_step < $3",
			user.ID, user.SecondFactor, proof.Step)
		if err == nil && changed == 0 {
			err = accounts.ErrInvalidCode
		}
		return err
	}
	for _, digest := range proof.Recovery {
		changed, err := c.execIn(ctx, tx, "DELETE FROM recovery_codes WHERE owner = $1 AND digest = $2", user.ID, digest)
		if err != nil || changed > 0 {
			return err
		}
	}
	return accounts.ErrInvalidCode
}

// SecondFactorStatus implements accounts.SecondFactorStore.
func (c *core) SecondFactorStatus(ctx context.Context, id sessions.Identity, now time.Time) (accounts.SecondFactorStatus, error) {
	var status accounts.SecondFactorStatus
	err := c.row(ctx, `SELECT u.second_factor IS NOT NULL, (SELECT count(*) FROM recovery_codes r WHERE r.owner = u.id)
		FROM sessions s JOIN users u ON u.id = s.owner WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`,
		[]any{id.Owner, id.Session, micros(now)}, &status.Enabled, &status.RecoveryCodes)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	return status, err
}
