package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"
)

// databaseCredentialsPath returns the path that creates a role's database users, which is also the
// prefix of their leases' ids.
func databaseCredentialsPath(mount, role string) string { return mount + "/creds/" + role }

func (c *Client) revocationPath(role string) string {
	// Vault ends the prefix with a slash, so it does not match other roles whose names begin like
	// this one's.
	return "sys/leases/revoke-prefix/" + databaseCredentialsPath(c.session.connection.DatabaseMount, role)
}

// RevokeDatabaseCredentials makes Vault drop all database users of d.DatabaseRole, and returns when
// they are dropped. Anyone who may use the role can get new ones. It can be repeated. Errors:
// RevocationFailed, if the database does not drop a user; SetupMissing, if vault-setup ran without
// DatabaseMount; Taken; connection errors.
func (c *Client) RevokeDatabaseCredentials(ctx context.Context, d Deployment) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	path := c.revocationPath(d.DatabaseRole)
	err := c.write(ctx, path, map[string]any{"sync": true})
	if cause, ok := errors.AsType[*Error](err); ok && isStatus(cause.cause, http.StatusBadRequest) {
		// Vault has stopped at the first user that it could not drop. Revoke the others in the
		// background.
		_ = c.write(ctx, path, map[string]any{"sync": false})
		return &Error{Problem: RevocationFailed, cause: cause.cause, message: fmt.Sprintf(
			"Vault at %s answers 400 to PUT %s, as it does when it cannot log in to the database; its log says more", c.session.connection.Address, path)}
	}
	return NeededBy(vaultCredentials, err)
}

// vaultCredentials is the feature that needs the rights of DatabaseMount.
const vaultCredentials = "spec.database.postgres.vaultCredentials" //nolint:gosec // the name of a field

// checkDatabaseRole returns an error if a right is missing, before a Compromise needs it.
//
// Errors: SetupMissing, if vault-setup ran without DatabaseMount; DatabaseRoleMissing; connection
// errors.
func (c *Client) checkDatabaseRole(ctx context.Context, role string) error {
	path := c.session.connection.DatabaseMount + "/roles/" + role
	secret, err := c.read(ctx, path)
	if err != nil {
		return NeededBy(vaultCredentials, err)
	}
	if secret == nil {
		return problem(DatabaseRoleMissing, "Vault at %s has no database role %s", c.session.connection.Address, path)
	}
	revocation := c.revocationPath(role)
	capabilities, err := c.capabilities(ctx, revocation)
	if err != nil {
		return NeededBy(vaultCredentials, err)
	}
	for _, needed := range []string{"update", "sudo"} {
		if !slices.Contains(capabilities, needed) {
			return NeededBy(vaultCredentials,
				problem(Denied, "Vault at %s does not give the operator the capability %s on %s", c.session.connection.Address, needed, revocation))
		}
	}
	return nil
}

// capabilities returns what the operator may do on a path.
func (c *Client) capabilities(ctx context.Context, of string) ([]string, error) {
	const path = "sys/capabilities-self"
	var secret *api.Secret
	err := c.session.call(ctx, path, func(l *api.Logical) (err error) {
		secret, err = l.WriteWithContext(ctx, path, map[string]any{"paths": []string{of}})
		return err
	})
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, problem(Unexpected, "Vault's answer to %s is empty", path)
	}
	list, _ := secret.Data["capabilities"].([]any)
	names := make([]string, len(list))
	for i, name := range list {
		names[i] = fmt.Sprint(name)
	}
	return names, nil
}
