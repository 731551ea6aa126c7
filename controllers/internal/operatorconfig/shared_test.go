package operatorconfig

import (
	"strings"
	"testing"
)

// TestSharedAuthMount: two connections that log in with the same roles have the same mounts and
// audience, however their address is written.
func TestSharedAuthMount(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ second, want string }{
		"the same":                        {`{address: "https://vault.vault.svc:8200"}`, ""},
		"another transit mount":           {`{address: "https://vault.vault.svc:8200", transitMount: transit-eu}`, "vaultConnections.eu.transitMount"},
		"another kv mount":                {`{address: "https://VAULT.vault.svc:8200/", kvMount: kv}`, "vaultConnections.eu.kvMount"},
		"another database mount":          {`{address: "https://vault.vault.svc:8200", databaseMount: db}`, "vaultConnections.eu.databaseMount"},
		"another audience":                {`{address: "https://vault.vault.svc:8200", audience: eu}`, "vaultConnections.eu.audience"},
		"the defaults, written out":       {`{address: "https://vault.vault.svc:8200", transitMount: transit, audience: vault}`, ""},
		"another mount of the auth":       {`{address: "https://vault.vault.svc:8200", transitMount: transit-eu, authMount: eu}`, ""},
		"another Vault":                   {`{address: "https://vault.eu.svc:8200", transitMount: transit-eu}`, ""},
		"another namespace of that Vault": {`{address: "https://vault.vault.svc:8200", transitMount: transit-eu, namespace: eu}`, ""},
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
