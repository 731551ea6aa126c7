package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// Secret is the name of a KV entry, and the digest of the value that the operator generated for it.
type Secret struct {
	Entry, Digest string
}

// Secrets are what the status of a SecureNotes records about the values in KV. Name and digest are
// recorded before the value is created. So an entry that an attacker created is never taken for the
// operator's: pods reject a value with another digest.
//
// An earlier release recorded less: an empty Entry means the fixed name of that release, and an
// empty Digest an unknown one.
type Secrets struct {
	// SessionKeys are those in use.
	SessionKeys Secret
	// NextSessionKeys are those being created.
	NextSessionKeys Secret
	Pepper          Secret
}

// record makes the caller record the secrets, and sets them in d. Nothing may be created in Vault
// if it fails.
func (d *Deployment) record(ctx context.Context, secrets Secrets) error {
	if err := d.Record(ctx, secrets); err != nil {
		return err
	}
	d.Secrets = secrets
	return nil
}

// maxNames bounds the names that are tried for one value. A second one is needed only if an
// attacker creates the first one at the same moment.
const maxNames = 4

// ensureSessionKeys returns an error if the session keys in use are not in Vault. An object that is
// not established has none, and an object that adopts a key must not adopt its session keys: both
// get new ones.
func (c *Client) ensureSessionKeys(ctx context.Context, d *Deployment, version int64) error {
	inUse := d.Secrets.SessionKeys
	if d.established() {
		return c.mustBeUsable(ctx, d.Directory, d.sessionKeysEntry())
	}
	if inUse.Digest != "" {
		found, err := c.readEntry(ctx, d.Directory, inUse.Entry)
		if err != nil || found.usable {
			return err
		}
	}
	return c.createSessionKeys(ctx, d, version)
}

// createSessionKeys creates session keys under a new name and records them as in use. After a
// crash, the next run creates others, because existing ones are never adopted. The marker names
// those that are left over.
func (c *Client) createSessionKeys(ctx context.Context, d *Deployment, version int64) error {
	keys, err := config.NewSessionKeys()
	if err != nil {
		return err
	}
	next := Secret{Entry: d.Secrets.NextSessionKeys.Entry}
	if next.Digest, err = keys.Digest(); err != nil {
		return err
	}
	if config.SessionKeysVersion(next.Entry) != version {
		next.Entry = config.NewSessionKeysEntry(version)
	} else if found, err := c.readEntry(ctx, d.Directory, next.Entry); err != nil {
		return err
	} else if found.exists {
		next.Entry = config.NewSessionKeysEntry(version)
	}
	for range maxNames {
		secrets := d.Secrets
		secrets.NextSessionKeys = next
		if err := d.record(ctx, secrets); err != nil {
			return err
		}
		if err := c.nameSessionKeys(ctx, *d, next.Entry); err != nil {
			return err
		}
		created, err := c.createEntry(ctx, d.Directory, next.Entry, keys)
		if err != nil {
			return err
		}
		if created {
			secrets.SessionKeys, secrets.NextSessionKeys = next, Secret{}
			return d.record(ctx, secrets)
		}
		next.Entry = config.NewSessionKeysEntry(version)
	}
	return problem(Unsuitable, "the entry %s was in Vault before the session keys were created: another client uses the operator's rights in Vault",
		c.dataPath(d.Directory, next.Entry))
}

// ensurePepper returns an error if the recorded pepper is not in Vault. The first time, it records
// and creates one. marker is the current one.
//
// Errors: Missing; Unsuitable, if there is a pepper that the object has not recorded.
func (c *Client) ensurePepper(ctx context.Context, d *Deployment, marker config.Marker, established bool) error {
	if established {
		if !d.established() {
			adopted := Secret{Entry: marker.Pepper, Digest: marker.PepperDigest}
			if adopted != (Secret{}) && (!config.IsPepperEntry(adopted.Entry) || !config.IsDigest(adopted.Digest)) {
				return problem(Unsuitable, "the marker %s in Vault has an invalid name for the pepper: restore an earlier version of it", c.dataPath(d.Directory, config.MarkerLeaf))
			}
			d.Secrets.Pepper = adopted
		}
		return c.mustBeUsable(ctx, d.Directory, d.Secrets.Pepper.entryOr(config.PepperLeaf))
	}
	recorded := d.Secrets.Pepper
	next := Secret{Entry: recorded.entryOr(config.PepperLeaf)}
	found, err := c.readEntry(ctx, d.Directory, next.Entry)
	switch {
	case err != nil:
		return err
	case recorded.Digest != "" && found.usable && recorded == Secret{Entry: marker.Pepper, Digest: marker.PepperDigest}:
		return nil
	case recorded.Digest == "" && len(found.left) > 0:
		return problem(Unsuitable, "%s is in Vault at %s, but status.pepper of this SecureNotes does not record it: anyone who created it knows the pepper. "+
			"If this SecureNotes has served before, restore its status; if not, have the Vault administrator run `vault kv metadata delete -mount=%s %s/%s`",
			c.dataPath(d.Directory, next.Entry), c.session.connection.Address, c.session.connection.KVMount, d.Directory, next.Entry)
	case found.exists:
		next.Entry = config.NewPepperEntry()
	}
	return c.createPepper(ctx, d, next)
}

func (c *Client) createPepper(ctx context.Context, d *Deployment, next Secret) (err error) {
	pepper := config.NewPepper()
	if next.Digest, err = pepper.Digest(); err != nil {
		return err
	}
	for range maxNames {
		secrets := d.Secrets
		secrets.Pepper = next
		if err := d.record(ctx, secrets); err != nil {
			return err
		}
		marker, version, err := c.ownMarker(ctx, *d)
		if err != nil {
			return err
		}
		marker.Pepper, marker.PepperDigest = next.Entry, next.Digest
		if err := c.writeMarker(ctx, d.Directory, marker, version); err != nil {
			return err
		}
		created, err := c.createEntry(ctx, d.Directory, next.Entry, pepper)
		if err != nil || created {
			return err
		}
		next.Entry = config.NewPepperEntry()
	}
	return problem(Unsuitable, "the entry %s was in Vault before the pepper was created: another client uses the operator's rights in Vault",
		c.dataPath(d.Directory, next.Entry))
}

func (s Secret) entryOr(fixed string) string {
	if s.Entry == "" {
		return fixed
	}
	return s.Entry
}

func (d *Deployment) sessionKeysEntry() string {
	return d.Secrets.SessionKeys.entryOr(config.SessionKeysLeaf)
}
