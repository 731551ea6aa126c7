// Package deployment ties a database to its deployment and master key. A process that uses another
// deployment's database, or the wrong key, finds out before it serves.
package deployment

import (
	"context"
	"errors"
	"fmt"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

var (
	// ErrOtherDeployment is that of package store.
	ErrOtherDeployment = store.ErrOtherDeployment
	// ErrRestoring means that a restore has not finished filling the database.
	ErrRestoring = errors.New("a restore of the database has not finished")
	// ErrWrongKey means that the master key does not open the database's canary.
	ErrWrongKey = errors.New("the master key is not the one of this database")
)

// MetaReader reads which deployment a database belongs to. See [store.Deployment].
type MetaReader interface {
	Meta(context.Context) (store.Meta, error)
}

// MetaStore also claims a database for a deployment. See [store.Deployment].
type MetaStore interface {
	MetaReader
	ClaimMeta(context.Context, store.Meta) error
}

// CanaryOwner is the owner in the context of a canary's key. It is not a UUID, so no user has it.
const CanaryOwner = "canary"

const canaryText = "securenotes canary"

var canaryPlace = envelope.Place{Kind: "meta", Row: "1", Field: "canary", Revision: 1}

// Claim initialises the database for the deployment, or checks that it is already the deployment's
// and that the master key is the right one. Errors: ErrRestoring, ErrOtherDeployment, ErrWrongKey.
func Claim(ctx context.Context, db MetaStore, keys *envelope.Keyring, d config.Deployment) error {
	err := Check(ctx, db, keys, d)
	if !errors.Is(err, store.ErrNoMeta) {
		return err
	}
	meta, err := NewCanary(ctx, keys)
	if err != nil {
		return err
	}
	meta.DeploymentID, meta.BelongsTo = d.ID, d.Namespace+"/"+d.Name
	if err := db.ClaimMeta(ctx, meta); err != nil {
		return fmt.Errorf("claim the database: %w", err)
	}
	// Another process may have been first.
	return Check(ctx, db, keys, d)
}

// Check checks that the database is the deployment's and that the master key opens its canary.
// Errors: store.ErrNoMeta, ErrRestoring, ErrOtherDeployment, ErrWrongKey.
func Check(ctx context.Context, db MetaReader, keys *envelope.Keyring, d config.Deployment) error {
	meta, err := db.Meta(ctx)
	if err != nil {
		return err
	}
	if err := checkRestored(meta.DeploymentID); err != nil {
		return err
	}
	if meta.DeploymentID != d.ID {
		return fmt.Errorf("%w: it belongs to %s (deployment %s), but this is %s/%s (deployment %s): correct the database URI",
			ErrOtherDeployment, meta.BelongsTo, meta.DeploymentID, d.Namespace, d.Name, d.ID)
	}
	return OpenCanary(ctx, keys, meta)
}

// checkRestored returns ErrRestoring if the deployment id is that of an unfinished restore.
func checkRestored(id string) error {
	if run, restoring := store.Restoring(id); restoring {
		return fmt.Errorf("%w (run %s): run `securenotes restore` again, which starts over", ErrRestoring, run)
	}
	return nil
}

// NewCanary returns a Meta with a new canary under the latest master key version. The other fields
// are empty.
func NewCanary(ctx context.Context, keys *envelope.Keyring) (store.Meta, error) {
	stored, err := keys.Generate(ctx, CanaryOwner)
	if err != nil {
		return store.Meta{}, fmt.Errorf("canary: %w", err)
	}
	key, err := keys.Unwrap(ctx, stored)
	if err != nil {
		return store.Meta{}, fmt.Errorf("canary: %w", err)
	}
	return store.Meta{Canary: stored, Sealed: key.Seal(canaryPlace, []byte(canaryText))}, nil
}

// OpenCanary returns ErrWrongKey unless the master key opens the canary.
func OpenCanary(ctx context.Context, keys *envelope.Keyring, meta store.Meta) error {
	meta.Canary.Owner = CanaryOwner
	key, err := keys.Unwrap(ctx, meta.Canary)
	if err == nil {
		err = OpenCanaryWith(key, meta.Sealed)
	}
	if errors.Is(err, envelope.ErrRefused) || errors.Is(err, envelope.ErrNotAuthentic) {
		return fmt.Errorf("%w: restore the database and the Vault key from the same point in time, or correct the one that is wrong: %w", ErrWrongKey, err)
	}
	return err
}

// OpenCanaryWith opens a canary with its own key, as an escrow has it. Error:
// envelope.ErrNotAuthentic.
func OpenCanaryWith(key *envelope.OwnerKey, sealed []byte) error {
	_, err := key.Open(canaryPlace, sealed)
	return err
}
