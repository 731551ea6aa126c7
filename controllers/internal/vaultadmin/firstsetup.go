package vaultadmin

import (
	"context"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// clockSkew is by how much the clock of Vault may be behind that of the API server: the default of
// Kerberos, which clocks that NTP sets stay far below.
const clockSkew = 5 * time.Minute

// mustBeOwn returns Retained if d is not established and what the marker gives it is older: notes
// of an earlier deployment, or a key that was created before the object. Anyone who has the
// operator's Vault token can write to the marker, so the marker alone gives an object nothing that
// it has neither recorded nor asked to adopt.
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
		return nil // recorded once the key had been found to be its own
	}
	secret, err := c.read(ctx, c.keyPath(d.Key))
	if err != nil || secret == nil || secret.Data["type"] != masterKeyType {
		return err
	}
	// A new key has its first version. One that is not listed can no longer be used.
	versions, _ := secret.Data["keys"].(map[string]any)
	created, err := integer(versions, "1")
	if err == nil && !time.Unix(created, 0).Before(d.Created.Add(-clockSkew)) {
		return nil
	}
	return problem(Retained, "the Transit key %s was created before this SecureNotes, whose status records no keys: "+
		"restore its status, or set spec.adoptRetainedKey to true to use the key, or have the Vault administrator delete it", d.Key)
}

// complete reports whether the marker is of keys that there are notes under: it was adopted, or its
// database is in use. Neither the master key nor the pepper may be replaced then.
func complete(d Deployment, marker config.Marker) bool {
	return marker.DeploymentID != d.UID || marker.Claimed || marker.EmptyDatabases > 0
}
