package vaultadmin

import (
	"bytes"
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// backupKeyType is the type of the Transit keys that sign backups.
const backupKeyType = "ed25519"

// backups is the feature that needs the rights to the backup key.
const backups = "the signing of backups"

// denialPause is how long a denial is remembered. Otherwise each check of each object would cost a
// denied request and another login while the rights are those of an earlier release.
const denialPause = 5 * time.Minute

// denial is an answer of Vault that the rights of a feature are missing.
type denial struct {
	until time.Time
	err   error
}

// denials remembers the last denial of a feature.
type denials struct{ last atomic.Pointer[denial] }

// recent returns a denial that still counts, or nil.
func (d *denials) recent(now time.Time) *denial {
	if last := d.last.Load(); last != nil && now.Before(last.until) {
		return last
	}
	return nil
}

// remember makes the denial count for a while.
func (d *denials) remember(now time.Time, err error) {
	d.last.Store(&denial{until: now.Add(denialPause), err: err})
}

// BackupKeyState is the backup key of one SecureNotes in Vault. Notes do not depend on it.
type BackupKeyState struct {
	// Keys are its public keys; nil if there is a Problem.
	Keys *config.BackupKeys
	// Problem is nil, or: SetupMissing, if an earlier release's vault-setup granted no right to the
	// key; Missing, if the key or a known version of it is missing; Unsuitable.
	Problem error
}

// ensureBackupKey creates the key that signs backups if it does not exist and no version of it is
// known. A lost key is not recreated: the public keys that were saved would not match it.
// Errors: connection errors.
func (c *Client) ensureBackupKey(ctx context.Context, d Deployment) (BackupKeyState, error) {
	if denied := c.backupsDenied.recent(c.session.now()); denied != nil {
		return BackupKeyState{Problem: denied.err}, nil
	}
	keys, err := c.createBackupKey(ctx, d)
	if err == nil {
		err = mustHaveVersions(keys, d.BackupKeys)
	}
	switch {
	case err == nil:
		return BackupKeyState{Keys: keys}, nil
	case OfFeature(err):
		c.backupsDenied.remember(c.session.now(), err)
		return BackupKeyState{Problem: err}, nil
	case ProblemOf(err) == Missing, ProblemOf(err) == Unsuitable:
		return BackupKeyState{Problem: err}, nil
	default:
		return BackupKeyState{}, err
	}
}

func (c *Client) createBackupKey(ctx context.Context, d Deployment) (*config.BackupKeys, error) {
	keys, _, err := c.readBackupKey(ctx, d.BackupKey)
	if ProblemOf(err) != Missing || len(d.BackupKeys) > 0 {
		return keys, err
	}
	create := map[string]any{"type": backupKeyType, "exportable": false, "allow_plaintext_backup": false}
	if err := c.write(ctx, c.keyPath(d.BackupKey), create); err != nil {
		return nil, NeededBy(backups, err)
	}
	keys, _, err = c.readBackupKey(ctx, d.BackupKey)
	return keys, err
}

// readBackupKey returns the public keys of a Transit key, and the oldest version that signs.
// Errors: Missing; Unsuitable; SetupMissing; connection errors.
func (c *Client) readBackupKey(ctx context.Context, key string) (keys *config.BackupKeys, oldest int64, err error) {
	secret, err := c.read(ctx, c.keyPath(key))
	if err != nil {
		return nil, 0, NeededBy(backups, err)
	}
	if secret == nil {
		return nil, 0, problem(Missing, "the Transit key %s is not in Vault at %s", key, c.session.connection.Address)
	}
	return parseBackupKey(secret, key)
}

func parseBackupKey(secret *api.Secret, key string) (keys *config.BackupKeys, oldest int64, err error) {
	for field, want := range map[string]any{"type": backupKeyType, "exportable": false, "allow_plaintext_backup": false} {
		if got := secret.Data[field]; got != want {
			return nil, 0, problem(Unsuitable, "the Transit key %s has %s=%v where %v is needed: remove or rename that key in Vault", key, field, got, want)
		}
	}
	if keys, err = config.NewBackupKeys(key, secret.Data); err != nil {
		return nil, 0, problem(Unsuitable, "the Transit key %s cannot sign backups: %s", key, err)
	}
	oldest, err = integer(secret.Data, "min_encryption_version")
	return keys, oldest, err
}

// mustHaveVersions returns an error unless the key has the known versions, with the same public
// keys. Unsuitable: another key has taken its place. Missing: a version is not in Vault.
func mustHaveVersions(keys *config.BackupKeys, known []config.BackupKey) error {
	for _, version := range known {
		switch found, ok := keys.Find(version.Version); {
		case !ok:
			return problem(Missing, "the Transit key %s has no version %d any more", keys.Key, version.Version)
		case !bytes.Equal(found.PublicKey, version.PublicKey):
			return problem(Unsuitable, "the Transit key %s is another one than before: version %d has another public key", keys.Key, version.Version)
		}
	}
	return nil
}

// LatestBackupKey returns the latest version of the backup key. Errors: as ReplaceBackupKey, but
// for Taken.
func (c *Client) LatestBackupKey(ctx context.Context, d Deployment) (int64, error) {
	keys, _, err := c.readBackupKey(ctx, d.BackupKey)
	return latest(keys), err
}

func latest(keys *config.BackupKeys) int64 {
	if keys == nil {
		return 0
	}
	return int64(keys.Versions[len(keys.Versions)-1].Version)
}

// ReplaceBackupKey adds a version to the backup key if from is the latest one, and lets only the
// latest version sign. It returns the latest version. Before, the caller must record from, so that
// it can repeat the call after a crash.
//
// Errors: Missing, if there is no key; Unsuitable; SetupMissing, if an earlier release's
// vault-setup granted no right to the key; Taken; connection errors.
func (c *Client) ReplaceBackupKey(ctx context.Context, d Deployment, from int64) (int64, error) {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return 0, err
	}
	keys, oldest, err := c.readBackupKey(ctx, d.BackupKey)
	if err != nil {
		return 0, err
	}
	if latest(keys) < from {
		return 0, problem(Missing, "the Transit key %s has no version %d any more", d.BackupKey, from)
	}
	if latest(keys) == from {
		if err := c.write(ctx, c.keyPath(d.BackupKey)+"/rotate", map[string]any{}); err != nil {
			return 0, NeededBy(backups, err)
		}
		if keys, oldest, err = c.readBackupKey(ctx, d.BackupKey); err != nil {
			return 0, err
		}
	}
	if to := latest(keys); oldest < to {
		if err := c.write(ctx, c.keyPath(d.BackupKey)+"/config", map[string]any{"min_encryption_version": to}); err != nil {
			return 0, NeededBy(backups, err)
		}
	}
	return latest(keys), nil
}

// shredBackupKey destroys the backup key. Without rights to it there is nothing to destroy: the
// operator has not created it.
func (c *Client) shredBackupKey(ctx context.Context, key string) error {
	if _, err := c.read(ctx, c.keyPath(key)); ProblemOf(err) == Denied {
		return nil
	}
	return c.shredKey(ctx, key, backupKeyType)
}
