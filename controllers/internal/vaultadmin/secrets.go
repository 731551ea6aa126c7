package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// Secret names an entry of KV, and the digest of the value that the operator has made for it.
type Secret struct {
	Entry, Digest string
}

// Secrets are what the status of a SecureNotes records about the values in KV. A name and a digest
// are recorded before the value is created, so that an entry which somebody else has created,
// before or since, is never taken for the operator's: pods refuse a value of another digest.
//
// An earlier release recorded less: an empty Entry is the fixed name of that release, and an empty
// Digest is one that nobody knows.
type Secrets struct {
	// SessionKeys are in use.
	SessionKeys Secret
	// NextSessionKeys are being created.
	NextSessionKeys Secret
	Pepper          Secret
}

// record has the caller record the secrets, and keeps them for what follows. Nothing may be created
// in Vault unless it succeeds.
func (d *Deployment) record(ctx context.Context, secrets Secrets) error {
	if err := d.Record(ctx, secrets); err != nil {
		return err
	}
	d.Secrets = secrets
	return nil
}

// maxNames bounds how many names are tried for one value. A second one is needed only if the first
// was created by somebody else at that moment.
const maxNames = 4

// ensureSessionKeys returns an error unless the session keys in use are in Vault. An object that is
// not established has none yet, and one that adopts a key must not take over the session keys that
// it finds: both get new ones, once.
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

// createSessionKeys creates session keys under a name of their own and has them recorded as in use.
// If it is killed on the way, the next run creates others: what exists is never adopted. What is
// left over is named in the marker.
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
	return problem(Unsuitable, "the entry %s was in Vault before the session keys were created: somebody else uses the operator's rights in Vault",
		c.dataPath(d.Directory, next.Entry))
}

// ensurePepper returns an error unless the recorded pepper is in Vault; the first time, it records
// and creates one. marker is as it was just read.
//
// Errors: Missing; Unsuitable when there is a pepper that the object has not recorded.
func (c *Client) ensurePepper(ctx context.Context, d *Deployment, marker config.Marker, established bool) error {
	if established {
		if !d.established() {
			adopted := Secret{Entry: marker.Pepper, Digest: marker.PepperDigest}
			if adopted != (Secret{}) && (!config.IsPepperEntry(adopted.Entry) || !config.IsDigest(adopted.Digest)) {
				return problem(Unsuitable, "the marker %s in Vault names no pepper that can be: restore an earlier version of it", c.dataPath(d.Directory, config.MarkerLeaf))
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
	return problem(Unsuitable, "the entry %s was in Vault before the pepper was created: somebody else uses the operator's rights in Vault",
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
