package vaultadmin

import (
	"cmp"
	"context"
	"slices"

	"github.com/securenotes/securenotes/app/config"
)

// ReplaceSessionKeys creates session keys for a version of the master key and records them as in
// use, unless it has done so already. It can be repeated after a crash.
//
// Error: Unsuitable, if newer session keys are in use: an operator that was paused before the call
// must not restore older ones.
func (c *Client) ReplaceSessionKeys(ctx context.Context, d Deployment, version int64) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	switch inUse := config.SessionKeysVersion(d.sessionKeysEntry()); {
	case inUse == version:
		return nil
	case inUse > version:
		return problem(Unsuitable, "the session keys %s in use are newer than version %d: nothing was changed", d.sessionKeysEntry(), version)
	}
	return c.createSessionKeys(ctx, &d, version)
}

// DeleteOtherSessionKeys destroys the entries of session keys that are not in use: those that the
// marker names, and replaced. It can be repeated. Errors: Missing, if those in use are not in
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

// nameSessionKeys adds an entry to the marker before it is created. If the marker names too many,
// it destroys those that an established object does not use. Otherwise anyone with the operator's
// Vault token could block a Compromise by adding names. Error: Unsuitable, if the object is not
// established.
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

// sessionKeysEntries returns all entries that may exist, with those in more. Of the marker, only
// names of session keys count: an attacker who can write it must not get another entry destroyed.
func sessionKeysEntries(marker config.Marker, more ...string) []string {
	all := append([]string{cmp.Or(marker.SessionKeys, config.SessionKeysLeaf)}, marker.OtherSessionKeys...)
	return slices.DeleteFunc(append(all, more...), func(entry string) bool { return !config.IsSessionKeysEntry(entry) })
}
