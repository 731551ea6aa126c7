package vaultadmin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"
)

// entry is the metadata of one KV entry. The operator cannot read values.
type entry struct {
	// exists reports that there is metadata. Then Vault does not let the operator create an entry
	// of that name.
	exists bool
	// usable reports that the newest version can be read.
	usable bool
	// left are the versions that are not destroyed. Deleted ones, which can be restored, are among
	// them.
	left []int64
}

func (c *Client) metadataPath(directory, leaf string) string {
	return fmt.Sprintf("%s/metadata/%s/%s", c.session.connection.KVMount, directory, leaf)
}

func (c *Client) readEntry(ctx context.Context, directory, leaf string) (entry, error) {
	path := c.metadataPath(directory, leaf)
	secret, err := c.read(ctx, path)
	if err != nil || secret == nil {
		return entry{}, err
	}
	return parseEntry(secret, path, c.session.now())
}

func parseEntry(secret *api.Secret, path string, now time.Time) (entry, error) {
	current, err := integer(secret.Data, "current_version")
	if err != nil {
		return entry{}, err
	}
	var versions map[int64]struct {
		DeletionTime string `json:"deletion_time"`
		Destroyed    bool   `json:"destroyed"`
	}
	raw, err := json.Marshal(secret.Data["versions"])
	if err == nil {
		err = json.Unmarshal(raw, &versions)
	}
	if err != nil {
		return entry{}, problem(Unexpected, "Vault's answer has no versions of %s", path)
	}
	found := entry{exists: true}
	for number, version := range versions {
		if version.Destroyed {
			continue
		}
		found.left = append(found.left, number)
		if number == current {
			deleted, err := time.Parse(time.RFC3339Nano, version.DeletionTime)
			found.usable = version.DeletionTime == "" || (err == nil && deleted.After(now))
		}
	}
	return found, nil
}

// mustBeUsable returns Missing unless the entry's newest version can be read.
func (c *Client) mustBeUsable(ctx context.Context, directory, leaf string) error {
	found, err := c.readEntry(ctx, directory, leaf)
	if err == nil && !found.usable {
		return problem(Missing, "%s is not in Vault at %s", c.dataPath(directory, leaf), c.session.connection.Address)
	}
	return err
}

// createEntry writes value if nothing was ever written there, and reports whether it did. It reads
// the metadata before and after: the operator may create and not update, and Vault's refusal does
// not say which of the two was tried. After another error the value may have been written.
func (c *Client) createEntry(ctx context.Context, directory, leaf string, value any) (created bool, err error) {
	if found, err := c.readEntry(ctx, directory, leaf); err != nil || found.exists {
		return false, err
	}
	err = c.writeKV(ctx, directory, leaf, value, 0)
	if err == nil {
		return true, nil
	}
	if cause, ok := errors.AsType[*Error](err); ok && (cause.Problem == Denied || isStatus(cause.cause, http.StatusBadRequest)) {
		if found, errRead := c.readEntry(ctx, directory, leaf); errRead == nil && found.exists {
			return false, nil
		}
	}
	return false, err
}

// destroyEntry destroys every version of the entry and keeps its metadata. With the metadata, Vault
// lets nobody with the operator's rights create another value of that name.
func (c *Client) destroyEntry(ctx context.Context, directory, leaf string) error {
	found, err := c.readEntry(ctx, directory, leaf)
	if err != nil || len(found.left) == 0 {
		return err
	}
	path := fmt.Sprintf("%s/destroy/%s/%s", c.session.connection.KVMount, directory, leaf)
	err = c.write(ctx, path, map[string]any{"versions": found.left})
	if ProblemOf(err) != Denied {
		return err
	}
	// Policies of an earlier release only allow to delete the metadata, and every version with it.
	if errDelete := c.delete(ctx, c.metadataPath(directory, leaf)); ProblemOf(errDelete) != Denied {
		return errDelete
	}
	return err
}
