package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Meta says whose database this is.
type Meta struct {
	DeploymentID string
	// BelongsTo is namespace/name of the SecureNotes object.
	BelongsTo string
	// Canary is a key of its own under the master key, and Sealed a known value under it: whoever
	// can open it has the right master key.
	Canary envelope.StoredKey
	Sealed []byte
}

// ErrNoMeta means that the database has not been initialised.
var ErrNoMeta = errors.New("the database belongs to no deployment yet")

// Meta reads whose database this is, or ErrNoMeta.
func (s *Store) Meta(ctx context.Context) (Meta, error) {
	m := Meta{}
	err := s.row(ctx, "SELECT deployment_id, belongs_to, canary_id, canary_wrapped, canary FROM meta WHERE id = 1", nil,
		&m.DeploymentID, &m.BelongsTo, &m.Canary.ID, (*string)(&m.Canary.Wrapped), &m.Sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNoMeta
	}
	return m, err
}

// DeploymentID reads whose database this is, whatever the version of its schema. Error: ErrNoMeta,
// also where there is no schema at all.
func (s *Store) DeploymentID(ctx context.Context) (string, error) {
	var id string
	err := s.row(ctx, "SELECT deployment_id FROM meta WHERE id = 1", nil, &id)
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, errNoTable) {
		return "", ErrNoMeta
	}
	return id, err
}

// ClaimMeta makes the database the deployment's, unless it is somebody's already.
func (s *Store) ClaimMeta(ctx context.Context, m Meta) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO meta (id, deployment_id, belongs_to, canary_id, canary_version, canary_wrapped, canary)
		VALUES (1, $1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
		m.DeploymentID, m.BelongsTo, m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed)
	return err
}

// ReplaceCanary puts a new canary in the old one's place, if the old one is still there.
func (s *Store) ReplaceCanary(ctx context.Context, to int, old, m Meta) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	return s.inRotation(ctx, to, func(tx queryer) error {
		_, err := s.execIn(ctx, tx, `UPDATE meta SET canary_id = $1, canary_version = $2, canary_wrapped = $3, canary = $4
			WHERE id = 1 AND canary_wrapped = $5`,
			m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed, string(old.Canary.Wrapped))
		return err
	})
}

// ClaimPepper records the digest of the pepper in use where none is recorded, and returns the one
// that is. Error: ErrNoMeta.
func (s *Store) ClaimPepper(ctx context.Context, digest string) (recorded string, err error) {
	for _, claim := range []bool{false, true} {
		if claim {
			// Another process may be first: then its digest is the one that is read.
			if _, err := s.exec(ctx, "UPDATE meta SET pepper_digest = $1 WHERE id = 1 AND pepper_digest IS NULL", digest); err != nil {
				return "", err
			}
		}
		var found sql.NullString
		err = s.row(ctx, "SELECT pepper_digest FROM meta WHERE id = 1", nil, &found)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return "", ErrNoMeta
		case err != nil || found.Valid:
			return found.String, err
		}
	}
	return "", errors.New("the digest of the pepper was erased from the database again")
}
