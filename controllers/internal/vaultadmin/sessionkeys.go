package vaultadmin

import (
	"cmp"
	"context"
	"slices"

	"github.com/securenotes/securenotes/app/config"
)

// ReplaceSessionKeys makes session keys under the name entry, and has the marker say that they are in use.
// It can be repeated, and goes on where a run that was killed stopped: the marker names the entry before it
// exists, so that Shred finds whatever there is, and an entry that exists is left as it is.
//
// The caller records the entry, and does not call again once it has: what was in use and is not there any
// more is reported by Ensure, never made anew. Error: Unsuitable, when newer session keys are in use: an operator
// that was stopped before its call must not bring back what has been replaced since.
func (c *Client) ReplaceSessionKeys(ctx context.Context, d Deployment, entry string) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil {
		return err
	}
	if config.SessionKeysVersion(entry) < config.SessionKeysVersion(marker.SessionKeys) {
		return problem(Unsuitable, "the session keys %s are in use, which are newer than %s: nothing is to be done", marker.SessionKeys, entry)
	}
	if !slices.Contains(sessionKeysEntries(marker), entry) {
		marker.OtherSessionKeys = append(marker.OtherSessionKeys, entry)
		if err := c.writeMarker(ctx, d.Directory, marker, version); err != nil {
			return err
		}
		version++
	}
	keys, err := config.NewSessionKeys()
	if err != nil {
		return err
	}
	if err := c.createOnly(ctx, d.Directory, entry, keys); err != nil {
		return err
	}
	if marker.SessionKeys == entry {
		return nil
	}
	others := slices.DeleteFunc(sessionKeysEntries(marker), func(e string) bool { return e == entry })
	marker.SessionKeys, marker.OtherSessionKeys = entry, others
	return c.writeMarker(ctx, d.Directory, marker, version)
}

// DeleteOtherSessionKeys deletes every entry of session keys but the one in use, which must be entry. It can
// be repeated.
func (c *Client) DeleteOtherSessionKeys(ctx context.Context, d Deployment, entry string) error {
	marker, version, err := c.ownMarker(ctx, d)
	if err != nil {
		return err
	}
	if marker.SessionKeys != entry {
		return problem(Unsuitable, "the marker %s in Vault says that other session keys than %s are in use: restore Vault to its newest state",
			c.dataPath(d.Directory, config.MarkerLeaf), entry)
	}
	if len(marker.OtherSessionKeys) == 0 {
		return nil
	}
	for _, other := range marker.OtherSessionKeys {
		if err := c.delete(ctx, c.metadataPath(d.Directory, other)); err != nil {
			return err
		}
	}
	marker.OtherSessionKeys = nil
	return c.writeMarker(ctx, d.Directory, marker, version)
}

// sessionKeysEntries are all that may exist, the one in use first.
func sessionKeysEntries(marker config.Marker) []string {
	return append([]string{cmp.Or(marker.SessionKeys, config.SessionKeysLeaf)}, marker.OtherSessionKeys...)
}
