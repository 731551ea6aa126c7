package vaultadmin

import (
	"context"

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
