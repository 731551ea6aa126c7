package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// DatabaseState is what the marker in Vault says of a deployment's database.
type DatabaseState struct {
	// Claimed is true once a pod was ready: the database holds notes, and no empty one may take its
	// place.
	Claimed bool
	// Accepted counts how often somebody has accepted an empty database all the same.
	Accepted int
}

// Later returns the later of two states of one database: whenever an empty one is accepted, it is
// not in use yet.
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

// RecordDatabase writes what is known of the database, unless the marker no longer says before:
// then another operator has written, and Ensure returns what. Errors: Missing; Taken when the
// marker is another object's; connection errors.
func (c *Client) RecordDatabase(ctx context.Context, d Deployment, before, after DatabaseState) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil || databaseState(marker) != before {
		return err
	}
	marker.Claimed, marker.EmptyDatabases = after.Claimed, after.Accepted
	return c.writeMarker(ctx, d.Directory, marker, version)
}
