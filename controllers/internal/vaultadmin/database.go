package vaultadmin

import (
	"context"
	"reflect"

	"github.com/securenotes/securenotes/app/config"
)

// DatabaseState is what the marker in Vault records about a deployment's database.
type DatabaseState struct {
	// Claimed is set once a pod was ready: the database has notes, and no empty one may take its
	// place.
	Claimed bool
	// Accepted counts how often a user has accepted an empty database nevertheless.
	Accepted int
}

// Later returns the later of two states of one database. A newly accepted empty database is not
// claimed yet.
func (s DatabaseState) Later(other DatabaseState) DatabaseState {
	switch {
	case s.Accepted == other.Accepted:
		return DatabaseState{Claimed: s.Claimed || other.Claimed, Accepted: s.Accepted}
	case s.Accepted > other.Accepted:
		return s
	default:
		return other
	}
}

func databaseState(marker config.Marker) DatabaseState {
	return DatabaseState{Claimed: marker.Claimed, Accepted: marker.EmptyDatabases}
}

// RecordDatabase changes the recorded state from before to after. It does nothing if the marker no
// longer has before, because another operator has written it: then Ensure returns the new state.
// Errors: Missing; Taken, if the marker names another object; connection errors.
func (c *Client) RecordDatabase(ctx context.Context, d Deployment, before, after DatabaseState) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil || databaseState(marker) != before {
		return err
	}
	marker.Claimed, marker.EmptyDatabases = after.Claimed, after.Accepted
	return c.writeMarker(ctx, d.Directory, marker, version)
}

// RecordRestored records in the marker that the database was restored: its deployment, and the
// pepper of the deployment if a restore from an escrow has brought another one. It changes nothing
// if the marker has them, so it can be repeated after a crash. Errors: Missing; Taken, if the
// marker names another object; Unexpected; connection errors.
//
// The entry of the pepper that is replaced stays. The database that the restore replaced may have
// been set aside, and nobody could verify its passwords without that pepper; the operator has no
// right to destroy a pepper either, unless vault-setup granted it for deletionPolicy Delete.
func (c *Client) RecordRestored(ctx context.Context, d Deployment, deploymentID string, pepper *Secret) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil {
		return err
	}
	before := marker
	marker.DeploymentID, marker.Claimed = deploymentID, true
	if pepper != nil {
		marker.Pepper, marker.PepperDigest = pepper.Entry, pepper.Digest
	}
	if reflect.DeepEqual(before, marker) {
		return nil
	}
	return c.writeMarker(ctx, d.Directory, marker, version)
}
