package vaultadmin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// Deployment is the desired state of what one SecureNotes has in Vault.
type Deployment struct {
	// Key and AuditKey are the Transit keys' names, Directory the KV directory below the mount.
	Key, AuditKey, Directory string
	// UID of the SecureNotes object, NamespaceUID, of its namespace, and ClusterUID, of the
	// namespace kube-system of its cluster.
	UID, NamespaceUID, ClusterUID string
	// Created is when the object was.
	Created time.Time
	// DeploymentID is what the object's status records, once everything is complete. Empty: the
	// object is not established.
	DeploymentID string
	// Secrets are what the object's status records of the session keys and the pepper, and Record
	// records others in their place. It fails when the status has changed meanwhile.
	Secrets Secrets
	Record  func(context.Context, Secrets) error
	// DatabaseRole is the role of Vault's database engine that makes the logins to the database. Empty: Vault makes none.
	DatabaseRole string
	// Adopt allows taking over what another object left behind in the same namespace.
	Adopt bool
	// AdoptOf allows taking over the keys of the object with this UID, of whichever namespace or
	// cluster.
	AdoptOf string
}

// established reports whether everything was complete once: then nothing is created again, because
// a new master key could open nothing, and no password would match under a new pepper.
func (d Deployment) established() bool { return d.DeploymentID != "" }

// DeploymentState is what was found.
type DeploymentState struct {
	// DeploymentID is what keys and notes are bound to.
	DeploymentID string
	Key          KeyState
	// Secrets to be recorded.
	Secrets Secrets
	// Database is what the marker says of the database.
	Database DatabaseState
	// DatabaseRights is what keeps Vault from looking after the logins of DatabaseRole, which is no
	// trouble with the keys: SetupMissing, or nil.
	DatabaseRights error
	// AuditKeyReplaced says that everything was complete once and the audit key was missing:
	// another was made.
	AuditKeyReplaced bool
}

// Ensure makes what is missing, in an order that a crash cannot spoil: the marker first, so that a
// half-made key is known to be ours; the key; pepper and session keys, of which name and digest are
// recorded before they are created, and which are never overwritten.
//
// Errors: Retained when the key belongs to another object and may not be adopted, or was created
// before this one; Taken when another object has adopted it since; Missing when something that was
// complete once is not there any more; Unsuitable; DatabaseRoleMissing; connection errors; those of
// d.Record.
func (c *Client) Ensure(ctx context.Context, d Deployment) (DeploymentState, error) {
	marker, err := c.ensureMarker(ctx, d)
	if err != nil {
		return DeploymentState{}, err
	}
	if d.established() && d.DeploymentID != marker.DeploymentID {
		return DeploymentState{}, problem(Unsuitable, "%s says that the notes are of deployment %s, but the status of this SecureNotes says %s: "+
			"somebody has written to it, so have the Vault administrator restore an earlier version of it",
			c.dataPath(d.Directory, config.MarkerLeaf), marker.DeploymentID, d.DeploymentID)
	}
	if err := c.mustBeOwn(ctx, d, marker); err != nil {
		return DeploymentState{}, err
	}
	established := d.established() || complete(d, marker)
	if !established {
		if err := c.createKey(ctx, d.Key); err != nil {
			return DeploymentState{}, err
		}
	}
	key, err := c.ReadKey(ctx, d.Key)
	if err != nil {
		return DeploymentState{}, err
	}
	var databaseRights error
	if d.DatabaseRole != "" {
		if err := c.checkDatabaseRole(ctx, d.DatabaseRole); OfFeature(err) {
			databaseRights = err
		} else if err != nil {
			return DeploymentState{}, err
		}
	}
	if err := c.ensurePepper(ctx, &d, marker, established); err != nil {
		return DeploymentState{}, err
	}
	if err := c.ensureSessionKeys(ctx, &d, key.Latest); err != nil {
		return DeploymentState{}, err
	}
	// Asked for before it is needed: a Compromise is no time to find out that a right is missing.
	if _, err := c.readEntry(ctx, d.Directory, config.NewSessionKeysEntry(key.Latest+1)); err != nil {
		return DeploymentState{}, err
	}
	// Last, so that a failure of another step does not hide that it was replaced.
	createdAuditKey, err := c.ensureAuditKey(ctx, d.AuditKey)
	if err != nil {
		return DeploymentState{}, err
	}
	return DeploymentState{
		DeploymentID: marker.DeploymentID, Key: key, Secrets: d.Secrets,
		Database: databaseState(marker), DatabaseRights: databaseRights, AuditKeyReplaced: established && createdAuditKey,
	}, nil
}

func (c *Client) ensureMarker(ctx context.Context, d Deployment) (config.Marker, error) {
	marker, version, err := c.readMarker(ctx, d.Directory)
	switch {
	case err != nil:
		return config.Marker{}, err
	case version == 0 && d.established():
		return config.Marker{}, problem(Missing, "%s is not in Vault at %s", c.dataPath(d.Directory, config.MarkerLeaf), c.session.connection.Address)
	case version == 0:
		return c.firstMarker(ctx, d)
	case d.owns(marker):
		// What an earlier release did not record is added once.
		before := marker
		marker.NamespaceUID = cmp.Or(marker.NamespaceUID, d.NamespaceUID)
		if d.established() {
			marker.ClusterUID = cmp.Or(marker.ClusterUID, d.ClusterUID)
		}
		if marker.NamespaceUID == before.NamespaceUID && marker.ClusterUID == before.ClusterUID {
			return marker, nil
		}
		return marker, c.writeMarker(ctx, d.Directory, marker, version)
	case d.established(), marker.UID == d.UID:
		return config.Marker{}, taken(d, marker)
	default:
		if err := adoptable(d, marker); err != nil {
			return config.Marker{}, err
		}
		// What is adopted comes with its notes: without them, it is not to become an empty service.
		marker.Claimed = true
	}
	marker.UID, marker.NamespaceUID, marker.ClusterUID = d.UID, d.NamespaceUID, d.ClusterUID
	return marker, c.writeMarker(ctx, d.Directory, marker, version)
}

// firstMarker claims the name in Vault. A key without a marker is not ours to take: what it was
// bound to is not known.
func (c *Client) firstMarker(ctx context.Context, d Deployment) (config.Marker, error) {
	if _, err := c.ReadKey(ctx, d.Key); err == nil {
		return config.Marker{}, problem(Unsuitable, "the Transit key %s exists but %s, which says whose it is, does not: restore that from a backup of Vault, or remove the key",
			d.Key, c.dataPath(d.Directory, config.MarkerLeaf))
	} else if ProblemOf(err) != Missing {
		return config.Marker{}, err
	}
	marker := config.Marker{UID: d.UID, NamespaceUID: d.NamespaceUID, ClusterUID: d.ClusterUID, DeploymentID: d.UID}
	return marker, c.writeMarker(ctx, d.Directory, marker, 0)
}

// Shred destroys the key, the session keys and the pepper for good, the marker last, so that a
// shredding that was interrupted can be gone on with. Errors: Taken, when everything belongs to
// another object, and is left alone; Retained, when it may be an earlier object's; Missing, when
// the marker is and the key is not; SetupMissing, when vault-setup ran without AllowShred.
func (c *Client) Shred(ctx context.Context, d Deployment) error {
	marker, version, err := c.readMarker(ctx, d.Directory)
	if err != nil {
		return err
	}
	if version == 0 {
		return c.shredded(ctx, d)
	}
	if !d.owns(marker) {
		return taken(d, marker)
	}
	if err := c.mustBeOwn(ctx, d, marker); err != nil {
		return err
	}
	return NeededBy("deletionPolicy Delete", c.shred(ctx, d, marker))
}

func (c *Client) shred(ctx context.Context, d Deployment, marker config.Marker) error {
	if err := c.shredKey(ctx, d.Key, masterKeyType); err != nil {
		return err
	}
	if err := c.shredKey(ctx, d.AuditKey, auditKeyType); err != nil {
		return err
	}
	leaves := append(sessionKeysEntries(marker, d.Secrets.SessionKeys.Entry, d.Secrets.NextSessionKeys.Entry), config.PepperLeaf)
	for _, pepper := range []string{marker.Pepper, d.Secrets.Pepper.Entry} {
		if config.IsPepperEntry(pepper) && !slices.Contains(leaves, pepper) {
			leaves = append(leaves, pepper)
		}
	}
	for _, leaf := range leaves {
		if err := c.destroyEntry(ctx, d.Directory, leaf); err != nil {
			return err
		}
	}
	return c.delete(ctx, c.metadataPath(d.Directory, config.MarkerLeaf))
}

// shredded returns an error if there is no marker although nothing was shredded.
func (c *Client) shredded(ctx context.Context, d Deployment) error {
	if !d.established() {
		return nil
	}
	secret, err := c.read(ctx, c.keyPath(d.Key))
	if err == nil && secret != nil {
		return problem(Missing, "%s is not in Vault at %s, but the Transit key %s is", c.dataPath(d.Directory, config.MarkerLeaf), c.session.connection.Address, d.Key)
	}
	return err
}
