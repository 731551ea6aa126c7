package operatorconfig

import (
	"strings"
	"testing"
)

// TestSharedAuthMount: two connections that log in with the same roles need the same mounts and
// audience, however their address is written.
func TestSharedAuthMount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ second, want string }{
		"the same":                        {second: `{address: "https://vault.vault.svc:8200"}`, want: ""},
		"another transit mount":           {second: `{address: "https://vault.vault.svc:8200", transitMount: transit-eu}`, want: "vaultConnections.eu.transitMount"},
		"another kv mount":                {second: `{address: "https://VAULT.vault.svc:8200/", kvMount: kv}`, want: "vaultConnections.eu.kvMount"},
		"another database mount":          {second: `{address: "https://vault.vault.svc:8200", databaseMount: db}`, want: "vaultConnections.eu.databaseMount"},
		"another audience":                {second: `{address: "https://vault.vault.svc:8200", audience: eu}`, want: "vaultConnections.eu.audience"},
		"the defaults, written out":       {second: `{address: "https://vault.vault.svc:8200", transitMount: transit, audience: vault}`, want: ""},
		"another mount of the auth":       {second: `{address: "https://vault.vault.svc:8200", transitMount: transit-eu, authMount: eu}`, want: ""},
		"another Vault":                   {second: `{address: "https://vault.eu.svc:8200", transitMount: transit-eu}`, want: ""},
		"another namespace of that Vault": {second: `{address: "https://vault.vault.svc:8200", transitMount: transit-eu, namespace: eu}`, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(valid + "  eu: " + tc.second + "\n"))
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "authMount") {
				t.Errorf("error %v does not name %s", err, tc.want)
			}
		})
	}
}
