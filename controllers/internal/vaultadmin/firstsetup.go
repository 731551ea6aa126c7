package vaultadmin

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// clockSkew is how much the clock of Vault may be behind that of the API server. It is the default
// of Kerberos; clocks with NTP differ far less.
const clockSkew = 5 * time.Minute

// mustBeOwn returns Retained if d is not established, and the marker names notes or a key that are
// older than the object. Anyone with the operator's Vault token can write the marker, so an object
// gets nothing by the marker alone: it must have recorded it, or ask to adopt it.
func (c *Client) mustBeOwn(ctx context.Context, d Deployment, marker config.Marker) error {
	switch {
	case d.established(), d.Adopt:
		return nil
	case complete(d, marker) && d.AdoptOf != "":
		return nil
	case complete(d, marker):
		return problem(Retained, "%s says that there are notes under the Transit key %s (deployment %s), but the status of this SecureNotes does not: "+
			"restore its status, or set spec.adoptRetainedKey to true to take over what the marker names",
			c.dataPath(d.Directory, config.MarkerLeaf), d.Key, marker.DeploymentID)
	case d.Secrets != (Secrets{}):
		return nil // recorded after this check had succeeded
	}
	secret, err := c.read(ctx, c.keyPath(d.Key))
	if err != nil || secret == nil || secret.Data["type"] != masterKeyType {
		return err
	}
	// A new key has its first version. A version that is not listed can no longer be used.
	versions, _ := secret.Data["keys"].(map[string]any)
	created, err := integer(versions, "1")
	if err == nil && !time.Unix(created, 0).Before(d.Created.Add(-clockSkew)) {
		return nil
	}
	return problem(Retained, "the Transit key %s was created before this SecureNotes, whose status records no keys: "+
		"restore its status, or set spec.adoptRetainedKey to true to use the key, or have the Vault administrator delete it", d.Key)
}

// complete reports whether there are notes under the marker's keys: the keys were adopted, or the
// database is in use. Then neither the master key nor the pepper may be recreated.
func complete(d Deployment, marker config.Marker) bool {
	return marker.DeploymentID != d.UID || marker.Claimed || marker.EmptyDatabases > 0
}
