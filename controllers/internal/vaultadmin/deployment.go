package vaultadmin

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// Deployment is the desired state of one SecureNotes in Vault.
type Deployment struct {
	// Key, AuditKey and BackupKey are the names of the Transit keys. Directory is the KV directory
	// below the mount.
	Key, AuditKey, BackupKey, Directory string
	// UIDs of the SecureNotes object, of its namespace, and of the namespace kube-system of its
	// cluster.
	UID, NamespaceUID, ClusterUID string
	// Created is the creation time of the object.
	Created time.Time
	// DeploymentID is the one in the object's status, which has it once everything is complete.
	// Empty: the object is not established.
	DeploymentID string
	// Secrets are the session keys and the pepper that the object's status records. Record replaces
	// them in the status, and fails if the status has changed meanwhile.
	Secrets Secrets
	Record  func(context.Context, Secrets) error
	// BackupKeys are the versions of the backup key that the object's status records. Empty: it was
	// never seen in Vault.
	BackupKeys []config.BackupKey
	// DrillIdentities are the entries with identities of the drill that the object's status
	// records.
	DrillIdentities []string
	// DatabaseRole is the role of Vault's database engine that creates the database users. Empty:
	// Vault creates none.
	DatabaseRole string
	// Adopt allows the adoption of the keys of a deleted object in the same namespace.
	Adopt bool
	// AdoptOf allows the adoption of the keys of the object with this UID, in any namespace or
	// cluster.
	AdoptOf string
}

// established reports whether everything was complete once. Then nothing is recreated: a new master
// key would open nothing, and no password would match with a new pepper.
func (d Deployment) established() bool { return d.DeploymentID != "" }

// DeploymentState is the actual state of one SecureNotes in Vault.
type DeploymentState struct {
	// DeploymentID that keys and notes are bound to.
	DeploymentID string
	Key          KeyState
	// Secrets that are in use.
	Secrets Secrets
	// Database is the state that the marker records.
	Database DatabaseState
	// DatabaseRights is SetupMissing if the operator has no right to manage the users of
	// DatabaseRole, or nil. It does not affect the keys.
	DatabaseRights error
	BackupKey      BackupKeyState
	// AuditKeyReplaced reports that the audit key of an established object was missing, and was
	// recreated.
	AuditKeyReplaced bool
}

// Ensure creates what is missing. It can be repeated after a crash at any point. The marker is
// first, so that an unfinished key is known to be the object's own. Then come the key, the pepper
// and the session keys. Name and digest of the latter two are recorded before they are created, and
// they are never overwritten.
//
// Errors: Retained, if the key belongs to another object and may not be adopted, or is older than
// this object; Taken, if another object has adopted it; Missing, if something that existed is
// missing; Unsuitable; DatabaseRoleMissing; connection errors; those of d.Record.
func (c *Client) Ensure(ctx context.Context, d Deployment) (DeploymentState, error) {
	marker, err := c.ensureMarker(ctx, d)
	if err != nil {
		return DeploymentState{}, err
	}
	if d.established() && d.DeploymentID != marker.DeploymentID {
		return DeploymentState{}, problem(Unsuitable, "%s says that the notes are of deployment %s, but the status of this SecureNotes says %s: "+
			"somebody has changed it: have the Vault administrator restore an earlier version of it",
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
	// To find a missing right before a Compromise needs it.
	if _, err := c.readEntry(ctx, d.Directory, config.NewSessionKeysEntry(key.Latest+1)); err != nil {
		return DeploymentState{}, err
	}
	backupKey, err := c.ensureBackupKey(ctx, d)
	if err != nil {
		return DeploymentState{}, err
	}
	// Last, so that an error of another step does not hide the replacement.
	createdAuditKey, err := c.ensureAuditKey(ctx, d.AuditKey)
	if err != nil {
		return DeploymentState{}, err
	}
	return DeploymentState{
		DeploymentID: marker.DeploymentID, Key: key, Secrets: d.Secrets,
		Database: databaseState(marker), DatabaseRights: databaseRights, BackupKey: backupKey, AuditKeyReplaced: established && createdAuditKey,
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
		// Add what an earlier release did not record.
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
		// Adopted keys come with notes. Without them, the service must not start empty.
		marker.Claimed = true
	}
	marker.UID, marker.NamespaceUID, marker.ClusterUID = d.UID, d.NamespaceUID, d.ClusterUID
	return marker, c.writeMarker(ctx, d.Directory, marker, version)
}

// firstMarker claims the name in Vault. It does not take over a key without a marker, whose owner
// is unknown.
func (c *Client) firstMarker(ctx context.Context, d Deployment) (config.Marker, error) {
	if _, err := c.ReadKey(ctx, d.Key); err == nil {
		return config.Marker{}, problem(Unsuitable, "the Transit key %s exists, but %s, which names its owner, does not: restore that from a backup of Vault, or remove the key",
			d.Key, c.dataPath(d.Directory, config.MarkerLeaf))
	} else if ProblemOf(err) != Missing {
		return config.Marker{}, err
	}
	marker := config.Marker{UID: d.UID, NamespaceUID: d.NamespaceUID, ClusterUID: d.ClusterUID, DeploymentID: d.UID}
	return marker, c.writeMarker(ctx, d.Directory, marker, 0)
}

// Shred irreversibly destroys the keys, the session keys, the pepper and the identities of the
// drill. The marker is last, so that an interrupted Shred can be repeated. Errors: Taken, if
// everything belongs to another object; Retained, if it may belong to an earlier object; Missing,
// if the marker is missing and the key is not; SetupMissing, if vault-setup ran without AllowShred.
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
	if err := c.shredBackupKey(ctx, d.BackupKey); err != nil {
		return err
	}
	leaves := append(sessionKeysEntries(marker, d.Secrets.SessionKeys.Entry, d.Secrets.NextSessionKeys.Entry), config.PepperLeaf)
	for _, pepper := range []string{marker.Pepper, d.Secrets.Pepper.Entry} {
		if config.IsPepperEntry(pepper) && !slices.Contains(leaves, pepper) {
			leaves = append(leaves, pepper)
		}
	}
	for _, leaf := range append(leaves, d.DrillIdentities...) {
		if err := c.destroyEntry(ctx, d.Directory, leaf); err != nil {
			return err
		}
	}
	return c.delete(ctx, c.metadataPath(d.Directory, config.MarkerLeaf))
}

// shredded returns an error if there is a key and no marker. Shred destroys the key first, so it
// cannot have left that state.
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
