package vaultadmin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// Client manages the keys of SecureNotes objects in one Vault.
type Client struct {
	session *session
	// backupsDenied and drillsDenied remember that the rights to backup keys, and to identities of
	// the drill, are missing.
	backupsDenied, drillsDenied denials
}

// NewClient returns a client. It logs in when it is first used. Errors: a CA bundle or an address
// that cannot be parsed.
func NewClient(connection Connection, now func() time.Time) (*Client, error) {
	s, err := newSession(connection, now)
	if err != nil {
		return nil, err
	}
	return &Client{session: s}, nil
}

// Connection returns the connection of the client.
func (c *Client) Connection() Connection { return c.session.connection }

func (c *Client) read(ctx context.Context, path string) (secret *api.Secret, err error) {
	err = c.session.call(ctx, path, func(l *api.Logical) error {
		var err error
		secret, err = l.ReadWithContext(ctx, path)
		return err
	})
	return secret, err
}

func (c *Client) write(ctx context.Context, path string, data map[string]any) error {
	err := c.session.call(ctx, path, func(l *api.Logical) error {
		_, err := l.WriteWithContext(ctx, path, data)
		return err
	})
	if err == nil {
		c.logger(ctx, path).Info("wrote to Vault", versions(data)...)
	}
	return err
}

func (c *Client) delete(ctx context.Context, path string) error {
	err := c.session.call(ctx, path, func(l *api.Logical) error {
		_, err := l.DeleteWithContext(ctx, path)
		return err
	})
	if err == nil {
		c.logger(ctx, path).Info("deleted from Vault")
	}
	if cause, ok := errors.AsType[*Error](err); ok && isStatus(cause.cause, http.StatusNotFound) {
		return nil
	}
	return err
}

// KeyState describes the versions of a Transit key.
type KeyState struct {
	// Latest version; the first is 1.
	Latest int64
	// MinDecryption is the oldest version that still decrypts.
	MinDecryption int64
	// MinEncryption is the oldest version that still encrypts. 0: only the latest.
	MinEncryption int64
	// MinAvailable is the oldest version that was not destroyed. 0: none was destroyed.
	MinAvailable int64
}

// Types of Transit keys.
const (
	masterKeyType = "aes256-gcm96"
	auditKeyType  = "ed25519"
)

func (c *Client) keyPath(key string) string {
	return c.session.connection.TransitMount + "/keys/" + key
}

// ReadKey returns the versions of a Transit key. Errors: Missing; Unsuitable, unless the key is a
// derived aes256-gcm96 that can neither be exported nor backed up in plain text; connection errors.
func (c *Client) ReadKey(ctx context.Context, key string) (KeyState, error) {
	secret, err := c.read(ctx, c.keyPath(key))
	if err != nil {
		return KeyState{}, err
	}
	if secret == nil {
		return KeyState{}, problem(Missing, "the Transit key %s is not in Vault at %s", key, c.session.connection.Address)
	}
	if err := suitable(key, secret.Data); err != nil {
		return KeyState{}, err
	}
	state := KeyState{}
	for field, into := range map[string]*int64{
		"latest_version": &state.Latest, "min_decryption_version": &state.MinDecryption, "min_encryption_version": &state.MinEncryption,
		"min_available_version": &state.MinAvailable,
	} {
		if *into, err = integer(secret.Data, field); err != nil {
			return KeyState{}, err
		}
	}
	return state, nil
}

// suitable returns an error if the key has other properties than the operator gives it. Notes would
// be less protected with such a key.
func suitable(key string, data map[string]any) error {
	for field, want := range map[string]any{
		"type": masterKeyType, "derived": true, "exportable": false, "allow_plaintext_backup": false, "supports_encryption": true,
	} {
		if got := data[field]; got != want {
			return problem(Unsuitable, "the Transit key %s has %s=%v where %v is needed: remove or rename that key in Vault", key, field, got, want)
		}
	}
	return nil
}

func integer(data map[string]any, field string) (int64, error) {
	number, ok := data[field].(json.Number)
	if !ok {
		return 0, problem(Unexpected, "Vault's answer has no number %s", field)
	}
	value, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return 0, problem(Unexpected, "Vault's answer has no whole number %s", field)
	}
	return value, nil
}

// createKey creates the key. Vault does not change an existing key.
func (c *Client) createKey(ctx context.Context, key string) error {
	return c.write(ctx, c.keyPath(key), map[string]any{
		"type": masterKeyType, "derived": true, "exportable": false, "allow_plaintext_backup": false,
	})
}

// ensureAuditKey creates the key that signs audit checkpoints if it does not exist. It protects no
// data: signatures of an earlier key are verified with its public half, which the administrator has
// saved.
func (c *Client) ensureAuditKey(ctx context.Context, key string) (created bool, err error) {
	secret, err := c.read(ctx, c.keyPath(key))
	if err != nil {
		return false, err
	}
	if secret == nil {
		return true, c.write(ctx, c.keyPath(key), map[string]any{"type": auditKeyType, "exportable": false, "allow_plaintext_backup": false})
	}
	for field, want := range map[string]any{"type": auditKeyType, "exportable": false, "allow_plaintext_backup": false} {
		if got := secret.Data[field]; got != want {
			return false, problem(Unsuitable, "the Transit key %s has %s=%v where %v is needed: remove or rename that key in Vault", key, field, got, want)
		}
	}
	return false, nil
}

// Rotate adds a version to the key. Before, the caller must record the intent, and check that the
// latest version is still the recorded one. Error: Taken.
func (c *Client) Rotate(ctx context.Context, d Deployment) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	return c.write(ctx, c.keyPath(d.Key)+"/rotate", map[string]any{})
}

// RaiseMinEncryption raises the oldest version that encrypts. It never lowers it. Error: Taken.
func (c *Client) RaiseMinEncryption(ctx context.Context, d Deployment, version int64) error {
	state, err := c.readOwnKey(ctx, d)
	if err != nil || state.MinEncryption >= version {
		return err
	}
	return c.write(ctx, c.keyPath(d.Key)+"/config", map[string]any{"min_encryption_version": version})
}

// readOwnKey reads the key after it has checked that the marker names the object.
func (c *Client) readOwnKey(ctx context.Context, d Deployment) (KeyState, error) {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return KeyState{}, err
	}
	return c.ReadKey(ctx, d.Key)
}

// RaiseMinDecryption raises the oldest version that decrypts, and returns the previous one. It
// never lowers it. What older versions encrypted cannot be read afterwards. Error: Taken.
func (c *Client) RaiseMinDecryption(ctx context.Context, d Deployment, version int64) (before int64, err error) {
	state, err := c.readOwnKey(ctx, d)
	if err != nil || state.MinDecryption >= version {
		return state.MinDecryption, err
	}
	return state.MinDecryption, c.write(ctx, c.keyPath(d.Key)+"/config", map[string]any{"min_decryption_version": version})
}

// Trim irreversibly destroys the versions of the key before version. floor is the oldest version
// that must still decrypt. Errors: Unsuitable, while an older version decrypts or a version to
// destroy encrypts; SetupMissing, if vault-setup ran without AllowTrim; Taken; connection errors.
func (c *Client) Trim(ctx context.Context, d Deployment, version, floor int64) error {
	state, err := c.readOwnKey(ctx, d)
	if err != nil || state.MinAvailable >= version {
		return err
	}
	if state.MinDecryption < max(version, floor) || state.MinEncryption < version {
		return problem(Unsuitable, "the Transit key %s has min_decryption_version=%d and min_encryption_version=%d: versions below %d are in use again, so they are kept",
			d.Key, state.MinDecryption, state.MinEncryption, max(version, floor))
	}
	return NeededBy("spec.keyRotation.trim", c.write(ctx, c.keyPath(d.Key)+"/trim", map[string]any{"min_available_version": version}))
}

// shredKey irreversibly destroys the key if it has the type kind. Error: Unsuitable.
func (c *Client) shredKey(ctx context.Context, key, kind string) error {
	secret, err := c.read(ctx, c.keyPath(key))
	if err != nil || secret == nil {
		return err
	}
	if got := secret.Data["type"]; got != kind {
		return problem(Unsuitable, "the Transit key %s has type=%v where %s is expected: the operator did not create it, and does not destroy it", key, got, kind)
	}
	if err := c.write(ctx, c.keyPath(key)+"/config", map[string]any{"deletion_allowed": true}); err != nil {
		return err
	}
	return c.delete(ctx, c.keyPath(key))
}

func (c *Client) dataPath(directory, leaf string) string {
	return fmt.Sprintf("%s/data/%s/%s", c.session.connection.KVMount, directory, leaf)
}

// readMarker returns the marker and its KV version. Version 0: there is no marker.
func (c *Client) readMarker(ctx context.Context, directory string) (config.Marker, int64, error) {
	secret, err := c.read(ctx, c.dataPath(directory, config.MarkerLeaf))
	if err != nil || secret == nil {
		return config.Marker{}, 0, err
	}
	metadata, _ := secret.Data["metadata"].(map[string]any)
	version, err := integer(metadata, "version")
	if err != nil {
		return config.Marker{}, 0, err
	}
	raw, err := json.Marshal(secret.Data["data"])
	if err != nil {
		return config.Marker{}, 0, problem(Unexpected, "Vault's answer has no marker")
	}
	marker, err := config.ParseMarker(raw)
	if err != nil {
		return config.Marker{}, 0, problem(Unsuitable, "the marker %s in Vault was deleted or damaged (%s): have the Vault administrator restore an earlier version of it",
			c.dataPath(directory, config.MarkerLeaf), err)
	}
	return marker, version, nil
}

// writeMarker writes the marker if its KV version is still the given one. It rejects a marker that
// readMarker would reject.
func (c *Client) writeMarker(ctx context.Context, directory string, marker config.Marker, version int64) error {
	if err := marker.Validate(); err != nil {
		return problem(Unexpected, "the marker %s is not written, because it would be damaged: %s", c.dataPath(directory, config.MarkerLeaf), err)
	}
	return c.writeKV(ctx, directory, config.MarkerLeaf, marker, version)
}

func (c *Client) writeKV(ctx context.Context, directory, leaf string, value any, version int64) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("%s: %w", leaf, err)
	}
	data := map[string]any{}
	if err := json.Unmarshal(raw, &data); err != nil {
		return fmt.Errorf("%s: %w", leaf, err)
	}
	return c.write(ctx, c.dataPath(directory, leaf), map[string]any{
		"options": map[string]any{"cas": version}, "data": data,
	})
}
