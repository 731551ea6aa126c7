package vaultadmin

import (
	"context"

	"github.com/securenotes/securenotes/app/config"
)

// drills is the feature that needs the rights to identities of the drill.
const drills = "the drill of backups"

// CreateDrillIdentity creates an entry with an identity. It calls record, which must record entry
// and recipient, after it has checked the rights and before it creates the entry.
//
// Errors: SetupMissing, if an earlier release's vault-setup granted no right to such entries;
// Unsuitable, if the entry exists; Missing; Taken; connection errors; those of record.
func (c *Client) CreateDrillIdentity(ctx context.Context, d Deployment, entry string, identity *config.DrillIdentity, record func(context.Context) error) error {
	if denied := c.drillsDenied.recent(c.session.now()); denied != nil {
		return denied.err
	}
	err := c.createDrillIdentity(ctx, d, entry, identity, record)
	if OfFeature(err) {
		c.drillsDenied.remember(c.session.now(), err)
	}
	return err
}

func (c *Client) createDrillIdentity(ctx context.Context, d Deployment, entry string, identity *config.DrillIdentity, record func(context.Context) error) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	found, err := c.readEntry(ctx, d.Directory, entry)
	if err != nil {
		return NeededBy(drills, err)
	}
	created := false
	if !found.exists {
		if err := record(ctx); err != nil {
			return err
		}
		if created, err = c.createEntry(ctx, d.Directory, entry, identity); err != nil {
			return NeededBy(drills, err)
		}
	}
	if !created {
		return problem(Unsuitable, "the entry %s was in Vault before the identity of the drill was created: another client uses the operator's rights in Vault",
			c.dataPath(d.Directory, entry))
	}
	return nil
}

// DestroyDrillIdentity destroys the identity of an entry, which may not exist. It can be repeated.
// Errors: SetupMissing; Taken; Missing, if there is no marker; connection errors.
func (c *Client) DestroyDrillIdentity(ctx context.Context, d Deployment, entry string) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	return NeededBy(drills, c.destroyEntry(ctx, d.Directory, entry))
}
