package vaultadmin

import (
	"strings"
	"testing"
)

// TestMissingRights checks that a missing right of one feature is an error of that feature only,
// and that a missing right that every object needs is an error of Vault.
func TestMissingRights(t *testing.T) {
	withRole := func(d Deployment) Deployment { d.DatabaseRole = "role"; return d }
	for name, tc := range map[string]struct {
		denied  string
		do      func(*Client, Deployment) error
		want    Problem
		feature string // empty: every object needs it
	}{
		"shred, the key":      {denied: "transit/keys/key/config", do: func(c *Client, d Deployment) error { return c.Shred(t.Context(), d) }, want: SetupMissing, feature: "deletionPolicy Delete"},
		"shred, the pepper":   {denied: "secret/destroy/dir/pepper", do: func(c *Client, d Deployment) error { return c.Shred(t.Context(), d) }, want: SetupMissing, feature: "deletionPolicy Delete"},
		"trim":                {denied: "transit/keys/key/trim", do: func(c *Client, d Deployment) error { return c.Trim(t.Context(), d, 1, 0) }, want: SetupMissing, feature: "spec.keyRotation.trim"},
		"drop database users": {denied: "sys/leases", do: func(c *Client, d Deployment) error { return c.RevokeDatabaseCredentials(t.Context(), withRole(d)) }, want: SetupMissing, feature: "vaultCredentials"},
		"shred, the marker":   {denied: "secret/data/dir/marker", do: func(c *Client, d Deployment) error { return c.Shred(t.Context(), d) }, want: Denied},
		"rotate":              {denied: "transit/keys/key/rotate", do: func(c *Client, d Deployment) error { return c.Rotate(t.Context(), d) }, want: Denied},
		"set-up":              {denied: "secret/metadata", do: func(c *Client, d Deployment) error { _, err := c.Ensure(t.Context(), d); return err }, want: Denied},
		"log in":              {denied: "auth", do: func(c *Client, d Deployment) error { return c.Shred(t.Context(), d) }, want: SetupMissing},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeVault{denied: tc.denied}
			client := f.startEarlier(t)
			f.keys["key"]["min_encryption_version"], f.keys["key"]["min_available_version"] = 1, 0
			err := tc.do(client, f.deployment(ownUID, true))
			if ProblemOf(err) != tc.want || OfFeature(err) != (tc.feature != "") || !strings.Contains(err.Error(), tc.feature) {
				t.Errorf("%v (of a feature: %t); want %s of %q", err, OfFeature(err), tc.want, tc.feature)
			}
		})
	}
	for name, denied := range map[string]string{"the role": "database/roles", "the capabilities": "sys/capabilities-self"} {
		t.Run("database logins, "+name, func(t *testing.T) {
			f := &fakeVault{denied: denied}
			client := f.startEarlier(t)
			f.keys["role"] = map[string]any{}
			state, err := client.Ensure(t.Context(), withRole(f.deployment(ownUID, true)))
			if err != nil || state.DeploymentID != ownUID || ProblemOf(state.DatabaseRights) != SetupMissing || !OfFeature(state.DatabaseRights) {
				t.Errorf("got %+v and error %v, want the deployment with %s of its database's rights", state, err, SetupMissing)
			}
		})
	}
}
