package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// owns reports whether the marker names the object, and no other cluster.
func (d Deployment) owns(marker config.Marker) bool {
	return marker.UID == d.UID && (marker.ClusterUID == "" || marker.ClusterUID == d.ClusterUID)
}

// adoptable returns why the keys of the marker may not be adopted. nil: they may.
//
// It shows the UID of the old object only in the same namespace. Otherwise the owner of a recreated
// namespace would learn what is needed to adopt the keys of the deleted one.
func adoptable(d Deployment, marker config.Marker) error {
	sameNamespace := marker.NamespaceUID != "" && marker.NamespaceUID == d.NamespaceUID
	switch {
	case d.AdoptOf == marker.UID:
		return nil
	case d.AdoptOf == "" && sameNamespace && d.Adopt:
		return nil
	case d.AdoptOf != "":
		return problem(Retained, "the Transit key %s belongs to another SecureNotes than that with uid %s, which spec.adoptRetainedKeyOf names: %s",
			d.Key, d.AdoptOf, askForUID)
	case sameNamespace:
		return problem(Retained, "the Transit key %s was left behind by a deleted SecureNotes of the same name (uid %s): "+
			"set spec.adoptRetainedKey to true to take it over together with its notes, or have the Vault administrator delete it", d.Key, marker.UID)
	default:
		return problem(Retained, "the Transit key %s was left behind by a SecureNotes of the same name in another namespace or cluster, "+
			"or by one that an earlier release of the operator created: %s", d.Key, askForUID)
	}
}

const askForUID = "to take it over together with its notes, set spec.adoptRetainedKeyOf to the uid of that SecureNotes, " +
	"which the Vault administrator reads with `operator retained list`; or have it destroyed with `operator retained shred`"

// taken returns an error for keys of d that another object or another cluster has adopted. It shows
// the UID under the same condition as [adoptable].
func taken(d Deployment, marker config.Marker) error {
	if marker.ClusterUID != "" && marker.ClusterUID != d.ClusterUID {
		return problem(Taken, "the Transit key %s belongs to a SecureNotes of another cluster: nothing in Vault is changed for this one. "+
			"If that cluster has taken the place of this one, delete this SecureNotes with deletionPolicy Retain", d.Key)
	}
	uid := ""
	if marker.NamespaceUID != "" && marker.NamespaceUID == d.NamespaceUID {
		uid = " (uid " + marker.UID + ")"
	}
	return problem(Taken, "the Transit key %s belongs to another SecureNotes%s: nothing in Vault is changed for this one. "+
		"If the other has adopted it with spec.adoptRetainedKeyOf and this one is no longer needed, delete this one with deletionPolicy Retain", d.Key, uid)
}

// ownMarker returns the marker and its KV version. It is read before every change of a key, because
// two clusters can share a Vault and, by mistake, a cluster id. Errors: Missing; Taken, if it names
// another object.
func (c *Client) ownMarker(ctx context.Context, d Deployment) (config.Marker, int64, error) {
	marker, version, err := c.readMarker(ctx, d.Directory)
	switch {
	case err != nil:
		return config.Marker{}, 0, err
	case version == 0:
		return config.Marker{}, 0, problem(Missing, "%s is not in Vault at %s", c.dataPath(d.Directory, config.MarkerLeaf), c.session.connection.Address)
	case !d.owns(marker):
		return config.Marker{}, 0, taken(d, marker)
	}
	return marker, version, nil
}
