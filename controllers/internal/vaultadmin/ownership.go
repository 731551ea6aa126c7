package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// owns reports whether the marker names the object, and no cluster but its own.
func (d Deployment) owns(marker config.Marker) bool {
	return marker.UID == d.UID && (marker.ClusterUID == "" || marker.ClusterUID == d.ClusterUID)
}

// adoptable reports why the keys of the marker may not be adopted; nil: they may.
//
// The UID of the old object is shown only where the namespace is the same one. Anyone who gets a
// namespace of a name that was used before must not be handed what it takes to have the keys of
// that one.
func adoptable(d Deployment, marker config.Marker) error {
	sameNamespace := marker.NamespaceUID != "" && marker.NamespaceUID == d.NamespaceUID
	switch {
	case d.AdoptOf == marker.UID:
		return nil
	case d.AdoptOf == "" && sameNamespace && d.Adopt:
		return nil
	case d.AdoptOf != "":
		return problem(Retained, "the Transit key %s belongs to another SecureNotes of this name than the one of uid %s, which spec.adoptRetainedKeyOf names: %s",
			d.Key, d.AdoptOf, askForUID)
	case sameNamespace:
		return problem(Retained, "the Transit key %s was left behind by a deleted SecureNotes of the same name (uid %s): "+
			"set spec.adoptRetainedKey to true to take it over together with its notes, or have the Vault administrator delete it", d.Key, marker.UID)
	default:
		return problem(Retained, "the Transit key %s was left behind by a SecureNotes of another namespace or cluster that had the same name, "+
			"or by one that an earlier release of the operator made: %s", d.Key, askForUID)
	}
}

const askForUID = "to take it over together with its notes, set spec.adoptRetainedKeyOf to the uid of that SecureNotes, " +
	"which the Vault administrator reads with `operator retained list`; or have it destroyed with `operator retained shred`"

// taken says that another object has adopted the keys of d, or another cluster has. Its UID is
// shown as [adoptable] does.
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

// ownMarker reads the marker and its KV version. Everything that changes a key reads it first,
// because two clusters can share a Vault and, by mistake, a cluster id. Errors: Missing; Taken when
// it is another object's.
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
