package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/hashicorp/vault/api"
)

// databaseCredentialsPath is where a role's logins are made, and what the ids of their leases begin with.
func databaseCredentialsPath(mount, role string) string { return mount + "/creds/" + role }

func (c *Client) revocationPath(role string) string {
	// Vault ends a prefix with a slash: a role whose name begins with this one's is another one.
	return "sys/leases/revoke-prefix/" + databaseCredentialsPath(c.session.connection.DatabaseMount, role)
}

// RevokeDatabaseCredentials has Vault drop every database user that it has made for d.DatabaseRole,
// and returns when they are gone. Anyone who has use of the role can have new ones made. It can be
// repeated. Errors: RevocationFailed where the database does not do it; SetupMissing where
// vault-setup ran without DatabaseMount; Taken; connection errors.
func (c *Client) RevokeDatabaseCredentials(ctx context.Context, d Deployment) error {
	if _, _, err := c.ownMarker(ctx, d); err != nil {
		return err
	}
	path := c.revocationPath(d.DatabaseRole)
	err := c.write(ctx, path, map[string]any{"sync": true})
	if cause, ok := errors.AsType[*Error](err); ok && isStatus(cause.cause, http.StatusBadRequest) {
		// Vault has stopped at the first that it could not drop. The others need not wait for that one.
		_ = c.write(ctx, path, map[string]any{"sync": false})
		return &Error{Problem: RevocationFailed, cause: cause.cause, message: fmt.Sprintf(
			"Vault at %s answers 400 to PUT %s, as it does when it cannot log in to the database; its log says more", c.session.connection.Address, path)}
	}
	return NeededBy(vaultCredentials, err)
}

// vaultCredentials is the feature that needs the rights of DatabaseMount.
const vaultCredentials = "spec.database.postgres.vaultCredentials" //nolint:gosec // the name of a field

// checkDatabaseRole says what is missing before it is needed: a Compromise is no time to find out.
//
// Errors: SetupMissing where vault-setup ran without DatabaseMount; DatabaseRoleMissing; connection
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

// capabilities that the operator has on a path.
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
