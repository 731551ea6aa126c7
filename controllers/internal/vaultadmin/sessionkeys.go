package vaultadmin

import (
	"cmp"
	"context"
	"slices"

	"github.com/securenotes/securenotes/app/config"
)

// ReplaceSessionKeys creates session keys for a version of the master key and has them recorded as
// in use, unless such are in use already. It can be repeated after a run that was killed.
//
// Error: Unsuitable, when newer session keys are in use: an operator that was stopped before its
// call must not bring back what has been replaced since.
func (c *Client) ReplaceSessionKeys(ctx context.Context, d Deployment, version int64) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	switch inUse := config.SessionKeysVersion(d.sessionKeysEntry()); {
	case inUse == version:
		return nil
	case inUse > version:
		return problem(Unsuitable, "the session keys %s are in use, which are newer than version %d: nothing is to be done", d.sessionKeysEntry(), version)
	}
	return c.createSessionKeys(ctx, &d, version)
}

// DeleteOtherSessionKeys destroys every entry of session keys but the one in use: those that the
// marker names, and replaced. It can be repeated. Errors: Missing, when those in use are not in
// Vault; Taken; Denied.
func (c *Client) DeleteOtherSessionKeys(ctx context.Context, d Deployment, replaced string) error {
	inUse := d.sessionKeysEntry()
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil {
		return err
	}
	if err := c.mustBeUsable(ctx, d.Directory, inUse); err != nil {
		return err
	}
	for _, other := range sessionKeysEntries(marker, d.Secrets.NextSessionKeys.Entry, replaced) {
		if other == inUse {
			continue
		}
		if err := c.destroyEntry(ctx, d.Directory, other); err != nil {
			return err
		}
	}
	if marker.SessionKeys == inUse && len(marker.OtherSessionKeys) == 0 {
		return nil
	}
	marker.SessionKeys, marker.OtherSessionKeys = inUse, nil
	return c.writeMarker(ctx, d.Directory, marker, version)
}

// nameSessionKeys has the marker name an entry that is about to be created. Where it names too many
// already, those that an established object does not use are destroyed: anyone who has the
// operator's Vault token could hold up a Compromise with them. Error: Unsuitable, of an object that
// is not.
func (c *Client) nameSessionKeys(ctx context.Context, d Deployment, entry string) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil || slices.Contains(sessionKeysEntries(marker), entry) {
		return err
	}
	if full := len(marker.OtherSessionKeys) >= config.MaxOtherSessionKeys; full && d.established() {
		others := sessionKeysEntries(config.Marker{}, marker.OtherSessionKeys...)[1:]
		marker.OtherSessionKeys = nil
		for _, other := range others {
			if other == d.sessionKeysEntry() {
				marker.OtherSessionKeys = []string{other}
			} else if err := c.destroyEntry(ctx, d.Directory, other); err != nil {
				return err
			}
		}
	} else if full {
		return problem(Unsuitable, "the marker %s in Vault names %d entries of session keys that were created and not recorded: find out in the operator's log what keeps it from recording them, "+
			"then have the Vault administrator destroy those that are not in use, and remove them from otherSessionKeys",
			c.dataPath(d.Directory, config.MarkerLeaf), len(marker.OtherSessionKeys))
	}
	marker.OtherSessionKeys = append(marker.OtherSessionKeys, entry)
	return c.writeMarker(ctx, d.Directory, marker, version)
}

// sessionKeysEntries are all that may exist, and more that the caller knows of. Of what the marker
// says, only names of session keys count: anyone who can write to it must not have another entry
// destroyed.
func sessionKeysEntries(marker config.Marker, more ...string) []string {
	all := append([]string{cmp.Or(marker.SessionKeys, config.SessionKeysLeaf)}, marker.OtherSessionKeys...)
	return slices.DeleteFunc(append(all, more...), func(entry string) bool { return !config.IsSessionKeysEntry(entry) })
}
