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
func (s *Store) ProposeSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor accounts.SecondFactor) (bool, error) {
	stored := false
	err := s.transact(ctx, func(tx queryer) error {
		stored = false
		var confirmed sql.NullString
		// The user's row is the lock between a proposal and a confirmation.
		err := s.rowIn(ctx, tx, `SELECT u.second_factor FROM users u WHERE u.id = $1
			AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3)`+s.dialect.lockExclusive(),
			[]any{id.Owner, id.Session, micros(now)}, &confirmed)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return sessions.ErrInvalid
		case err != nil:
			return err
		case confirmed.Valid:
			return accounts.ErrSecondFactorExists
		}
		if _, err := s.execIn(ctx, tx, "DELETE FROM second_factors WHERE owner = $1", id.Owner); err != nil {
			return err
		}
		changed, err := s.execIn(ctx, tx, `INSERT INTO second_factors (owner, id, key_id, revision, seed, last_step, created_at)
			SELECT k.owner, $2, k.id, 1, $4, 0, $5 FROM owner_keys k WHERE k.owner = $1 AND k.id = $3 AND k.state = 'active'`,
			id.Owner, factor.ID, factor.KeyID, factor.Seed, micros(factor.CreatedAt))
		stored = changed > 0
		return err
	})
	if errors.Is(err, errStillNeeded) {
		return false, nil // the key was deleted meanwhile
	}
	return stored, err
}

// SecondFactor implements accounts.SecondFactorStore.
func (s *Store) SecondFactor(ctx context.Context, owner string) (accounts.SecondFactor, envelope.StoredKey, error) {
	var factor accounts.SecondFactor
	var created int64
	key := envelope.StoredKey{Owner: owner}
	err := s.row(ctx, `SELECT f.id, f.key_id, f.seed, f.last_step, f.created_at, k.wrapped
		FROM second_factors f JOIN owner_keys k ON k.owner = f.owner AND k.id = f.key_id WHERE f.owner = $1`,
		[]any{owner}, &factor.ID, &factor.KeyID, &factor.Seed, &factor.LastStep, &created, (*string)(&key.Wrapped))
	if errors.Is(err, sql.ErrNoRows) {
		err = accounts.ErrNoSecondFactor
	}
	key.ID, factor.CreatedAt = factor.KeyID, fromMicros(created)
	return factor, key, err
}

// ConfirmSecondFactor implements accounts.SecondFactorStore.
func (s *Store) ConfirmSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, factor string, proof accounts.Proof, recovery []string) error {
	confirmed := s.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND second_factor = $2", id.Owner, factor)
	return s.transactUntilKnown(ctx, confirmed, func(tx queryer) error {
		if err := s.setSecondFactor(ctx, tx, id, now, "", factor); err != nil {
			return err
		}
		if err := s.useProof(ctx, tx, accounts.User{ID: id.Owner, SecondFactor: factor}, proof); err != nil {
			return err
		}
		if _, err := s.execIn(ctx, tx, "DELETE FROM recovery_codes WHERE owner = $1", id.Owner); err != nil {
			return err
		}
		for _, digest := range recovery {
			if _, err := s.execIn(ctx, tx, "INSERT INTO recovery_codes (owner, digest) VALUES ($1, $2)", id.Owner, digest); err != nil {
				return err
			}
		}
		_, err := s.execIn(ctx, tx, "DELETE FROM sessions WHERE owner = $1 AND id <> $2", id.Owner, id.Session)
		return err
	})
}

// RemoveSecondFactor implements accounts.SecondFactorStore.
func (s *Store) RemoveSecondFactor(ctx context.Context, id sessions.Identity, now time.Time, user accounts.User, proof accounts.Proof) error {
	removed := s.exists(ctx, "SELECT count(*) FROM users WHERE id = $1 AND second_factor IS NULL", id.Owner)
	return s.transactUntilKnown(ctx, removed, func(tx queryer) error {
		if err := s.setSecondFactor(ctx, tx, id, now, user.SecondFactor, ""); err != nil {
			return err
		}
		if err := s.useProof(ctx, tx, user, proof); err != nil {
			return err
		}
		for _, statement := range []string{"DELETE FROM second_factors WHERE owner = $1", "DELETE FROM recovery_codes WHERE owner = $1"} {
			if _, err := s.execIn(ctx, tx, statement, id.Owner); err != nil {
				return err
			}
		}
		return nil
	})
}

// setSecondFactor changes which factor is confirmed, if it is the one that is expected and the session lives.
// It changes the user's row, so that a login that began before is held to what it read.
func (s *Store) setSecondFactor(ctx context.Context, tx queryer, id sessions.Identity, now time.Time, from, to string) error {
	changed, err := s.execIn(ctx, tx, `UPDATE users SET second_factor = $4 WHERE id = $1 AND second_factor IS NOT DISTINCT FROM $5
		AND EXISTS (SELECT 1 FROM sessions s WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3)`,
		id.Owner, id.Session, micros(now), nullable(to), nullable(from))
	if err != nil || changed > 0 {
		return err
	}
	confirmed, err := s.confirmedFactor(ctx, tx, id, now)
	switch {
	case err != nil:
		return err
	case confirmed:
		return accounts.ErrSecondFactorExists
	}
	return accounts.ErrNoSecondFactor
}

// confirmedFactor says whether the session's user has a second factor. Errors: sessions.ErrInvalid.
func (s *Store) confirmedFactor(ctx context.Context, tx queryer, id sessions.Identity, now time.Time) (bool, error) {
	var factor sql.NullString
	err := s.rowIn(ctx, tx, `SELECT u.second_factor FROM sessions s JOIN users u ON u.id = s.owner
		WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`, []any{id.Owner, id.Session, micros(now)}, &factor)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	return factor.Valid, err
}

// useProof accepts a proof of the user's second factor, if there is one, that has not been used: the steps of
// codes only grow, a recovery code goes.
func (s *Store) useProof(ctx context.Context, tx queryer, user accounts.User, proof accounts.Proof) error {
	if user.SecondFactor == "" {
		return nil
	}
	if proof.Step > 0 {
		changed, err := s.execIn(ctx, tx, "UPDATE second_factors SET last_step = $3 WHERE owner = $1 AND id = $2 AND last_step < $3",
			user.ID, user.SecondFactor, proof.Step)
		if err == nil && changed == 0 {
			err = accounts.ErrInvalidCode
		}
		return err
	}
	for _, digest := range proof.Recovery {
		changed, err := s.execIn(ctx, tx, "DELETE FROM recovery_codes WHERE owner = $1 AND digest = $2", user.ID, digest)
		if err != nil || changed > 0 {
			return err
		}
	}
	return accounts.ErrInvalidCode
}

// SecondFactorStatus implements accounts.SecondFactorStore.
func (s *Store) SecondFactorStatus(ctx context.Context, id sessions.Identity, now time.Time) (accounts.SecondFactorStatus, error) {
	var status accounts.SecondFactorStatus
	err := s.row(ctx, `SELECT u.second_factor IS NOT NULL, (SELECT count(*) FROM recovery_codes r WHERE r.owner = u.id)
		FROM sessions s JOIN users u ON u.id = s.owner WHERE s.owner = $1 AND s.id = $2 AND s.expires_at > $3`,
		[]any{id.Owner, id.Session, micros(now)}, &status.Enabled, &status.RecoveryCodes)
	if errors.Is(err, sql.ErrNoRows) {
		err = sessions.ErrInvalid
	}
	return status, err
}
