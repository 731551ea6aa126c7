package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/securenotes/securenotes/app/internal/envelope"
)

// Meta is which deployment a database belongs to.
type Meta struct {
	DeploymentID string
	// BelongsTo is the SecureNotes object as namespace/name.
	BelongsTo string
	// Canary is a key under the master key, and Sealed a known value under that key. A master key
	// that opens both is the right one.
	Canary envelope.StoredKey
	Sealed []byte
	// PepperDigest is the SHA-256 of the pepper in use, in hexadecimal, or empty. ClaimPepper and
	// FinishRestore record it.
	PepperDigest string
	// Epoch is a random value that each restore renews, and empty before the first.
	Epoch string
}

// Meta implements Deployment.
func (c *core) Meta(ctx context.Context) (Meta, error) {
	return c.metaIn(ctx, c.db)
}

// metaIn is Meta in q.
func (c *core) metaIn(ctx context.Context, q queryer) (Meta, error) {
	m := Meta{}
	var pepper, epoch sql.NullString
	err := c.rowIn(ctx, q, "SELECT deployment_id, belongs_to, canary_id, canary_wrapped, canary, pepper_digest, epoch FROM meta WHERE id = 1", nil,
		&m.DeploymentID, &m.BelongsTo, &m.Canary.ID, (*string)(&m.Canary.Wrapped), &m.Sealed, &pepper, &epoch)
	m.PepperDigest, m.Epoch = pepper.String, epoch.String
	if errors.Is(err, sql.ErrNoRows) {
		return m, ErrNoMeta
	}
	return m, err
}

// DeploymentID implements Deployment.
func (c *core) DeploymentID(ctx context.Context) (string, error) {
	var id string
	err := c.row(ctx, "SELECT deployment_id FROM meta WHERE id = 1", nil, &id)
	if errors.Is(err, sql.ErrNoRows) || errors.Is(err, errNoTable) {
		return "", ErrNoMeta
	}
	return id, err
}

// ClaimMeta implements Deployment.
func (c *core) ClaimMeta(ctx context.Context, m Meta) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	_, err = c.exec(ctx, `INSERT INTO meta (id, deployment_id, belongs_to, canary_id, canary_version, canary_wrapped, canary)
		VALUES (1, $1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`,
		m.DeploymentID, m.BelongsTo, m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed)
	return err
}

// ReplaceCanary implements Rotation.
func (c *core) ReplaceCanary(ctx context.Context, to int, old, m Meta) error {
	version, err := m.Canary.Wrapped.Version()
	if err != nil {
		return err
	}
	return c.inRotation(ctx, to, func(tx queryer) error {
		_, err := c.execIn(ctx, tx, `UPDATE meta SET canary_id = $1, canary_version = $2, canary_wrapped = $3, canary = $4
			WHERE id = 1 AND canary_wrapped = $5`,
			m.Canary.ID, version, string(m.Canary.Wrapped), m.Sealed, string(old.Canary.Wrapped))
		return err
	})
}

// ClaimPepper implements Deployment.
func (c *core) ClaimPepper(ctx context.Context, digest string) (recorded string, err error) {
	for _, claim := range []bool{false, true} {
		if claim {
			// Another process may be first. Then its digest is read below.
			if _, err := c.exec(ctx, "UPDATE meta SET pepper_digest = $1 WHERE id = 1 AND pepper_digest IS NULL", digest); err != nil {
				return "", err
			}
		}
		var found sql.NullString
		err = c.row(ctx, "SELECT pepper_digest FROM meta WHERE id = 1", nil, &found)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return "", ErrNoMeta
		case err != nil || found.Valid:
			return found.String, err
		}
	}
	return "", errors.New("claim the pepper: another process has erased its digest from the database: start again")
}
