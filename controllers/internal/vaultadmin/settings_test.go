package vaultadmin

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

// laidDown returns a Vault after an earlier run with the given settings. With previous, its
// policies have the names of the previous release.
func laidDown(t *testing.T, setup Setup, previous bool) *setupVault {
	t.Helper()
	fake := &setupVault{data: map[string]map[string]any{
		"sys/auth/" + setup.AuthMount: {"type": "kubernetes", "accessor": "a"},
	}}
	if err := setup.Apply(t.Context(), fake.client(t), &bytes.Buffer{}, false); err != nil {
		t.Fatal(err)
	}
	fake.written = nil
	if !previous {
		return fake
	}
	for _, role := range setup.Roles() {
		was, is := "sys/policies/acl/"+role.ownPolicies[0], "sys/policies/acl/"+role.ownPolicies[1]
		fake.data[is] = fake.data[was]
		if was != is {
			delete(fake.data, was)
		}
		fake.data["auth/"+setup.AuthMount+"/role/"+role.Name]["token_policies"] = []any{role.ownPolicies[1]}
	}
	return fake
}

func laidDownSetup() Setup {
	return Setup{
		ClusterID: "prod", OperatorNamespace: "securenotes-system", OperatorServiceAccount: "securenotes-operator",
		AuthMount: "kube-eu", TransitMount: "transit", KVMount: "secret", Audience: "vault",
	}
}

// TestRightsUnderThePreviousName checks that the first run of this release keeps the rights of the
// policy with the previous release's name, and gets none from the policy of another cluster.
func TestRightsUnderThePreviousName(t *testing.T) {
	granting := laidDownSetup()
	granting.AllowTrim, granting.AllowShred, granting.DatabaseMount = true, true, "database"
	const name = "sys/policies/acl/securenotes-prod-kube_-eu-operator"
	const previous = "sys/policies/acl/securenotes-prod-kube-eu-operator"
	of := func(fake *setupVault) Rights {
		rules, _ := fake.data[name]["policy"].(string)
		granted, _ := grantedBy(rules)
		return granted
	}
	all := Rights{Trim: true, Shred: true, Database: true}
	foreign := granting
	foreign.ClusterID = "prod-kube"
	for name, tc := range map[string]struct {
		previous bool
		change   func(*setupVault)
		withdraw Rights
		want     Rights
	}{
		"under this release's name":         {want: all},
		"under the previous release's name": {previous: true, want: all},
		"withdrawn":                         {previous: true, withdraw: Rights{Shred: true}, want: Rights{Trim: true, Database: true}},
		"a policy that no role holds":       {previous: true, change: func(f *setupVault) { delete(f.data, "auth/kube-eu/role/securenotes-operator") }, want: all},
		"the role holds the policy of this release": {change: func(f *setupVault) {
			f.data[previous] = map[string]any{"policy": f.data[name]["policy"]}
			f.data[name] = map[string]any{"policy": laidDownSetup().operatorRules()}
		}},
		"a policy of another cluster": {previous: true, change: func(f *setupVault) {
			f.data[previous] = map[string]any{"policy": foreign.operatorRules()}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := laidDown(t, granting, tc.previous)
			if tc.change != nil {
				tc.change(fake)
			}
			setup := laidDownSetup()
			setup.Withdraw = tc.withdraw
			if err := setup.Apply(t.Context(), fake.client(t), &bytes.Buffer{}, false); err != nil || of(fake) != tc.want {
				t.Errorf("%v; the policy grants %+v, want %+v", err, of(fake), tc.want)
			}
		})
	}
}

// TestOtherSettingsAreRefused checks that a run replaces the mounts, the operator's account or the
// audience of an earlier one only with ReplaceSettings.
func TestOtherSettingsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		change  func(*Setup)
		earlier func(*Setup)
		want    []string
	}{
		"the same":                    {},
		"another transit mount":       {change: func(s *Setup) { s.TransitMount = "team/sn-keys.eu" }, want: []string{"--transit-mount", "transit", "team/sn-keys.eu"}},
		"a transit mount with a dot":  {earlier: func(s *Setup) { s.TransitMount = "team/sn-keys.eu" }, change: func(s *Setup) { s.TransitMount = "team/sn-keys.eu" }},
		"a mount like a key's path":   {earlier: func(s *Setup) { s.TransitMount = "x/keys/sn-keys.eu" }, change: func(s *Setup) { s.TransitMount = "x/keys/sn-keys.eu" }},
		"another kv mount":            {earlier: func(s *Setup) { s.KVMount = "team/kv" }, want: []string{"--kv-mount", "team/kv", "secret"}},
		"another namespace":           {earlier: func(s *Setup) { s.OperatorNamespace = "theirs" }, want: []string{"--operator-namespace", "theirs", "securenotes-system"}},
		"another account":             {earlier: func(s *Setup) { s.OperatorServiceAccount = "theirs" }, want: []string{"--operator-service-account", "theirs", "securenotes-operator"}},
		"another audience":            {earlier: func(s *Setup) { s.Audience = "theirs" }, want: []string{"--audience", "theirs", "vault"}},
		"another database mount":      {earlier: func(s *Setup) { s.DatabaseMount = "db" }, change: func(s *Setup) { s.DatabaseMount = "database" }, want: []string{"--database-mount", "db", "database"}},
		"a database mount, left out":  {earlier: func(s *Setup) { s.DatabaseMount = "db" }},
		"a database mount, the first": {change: func(s *Setup) { s.DatabaseMount = "db" }},
		"two settings":                {earlier: func(s *Setup) { s.KVMount, s.Audience = "team/kv", "theirs" }, want: []string{"--kv-mount", "--audience"}},
	} {
		for _, previous := range []bool{false, true} {
			t.Run(name+map[bool]string{true: ", of the previous release"}[previous], func(t *testing.T) {
				t.Parallel()
				earlier, setup := laidDownSetup(), laidDownSetup()
				if tc.earlier != nil {
					tc.earlier(&earlier)
				}
				if tc.change != nil {
					tc.change(&setup)
				}
				fake := laidDown(t, earlier, previous)
				before := text(t, fake)
				err := setup.Apply(t.Context(), fake.client(t), &bytes.Buffer{}, false)
				if tc.want == nil {
					if err != nil {
						t.Error(err)
					}
					return
				}
				for _, want := range append(tc.want, "--replace-settings") {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("error %v, want one that names %s", err, want)
					}
				}
				if len(fake.written) > 0 || text(t, fake) != before {
					t.Errorf("written before the refusal: %v", fake.written)
				}
				setup.ReplaceSettings = true
				if err := setup.Apply(t.Context(), fake.client(t), &bytes.Buffer{}, false); err != nil {
					t.Errorf("with --replace-settings: %v", err)
				}
				fake.written, setup.ReplaceSettings = nil, false
				if err := setup.Apply(t.Context(), fake.client(t), &bytes.Buffer{}, false); err != nil || slices.ContainsFunc(fake.written, isRights) {
					t.Errorf("the run after that: %v, written %v", err, fake.written)
				}
			})
		}
	}
}

func isRights(path string) bool {
	return strings.Contains(path, "/role/") || strings.HasPrefix(path, "sys/policies/")
}

// text returns everything in a Vault.
func text(t *testing.T, fake *setupVault) string {
	t.Helper()
	var all []string
	for _, path := range slices.Sorted(maps.Keys(fake.data)) {
		raw, err := json.Marshal(fake.data[path])
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, path+" "+string(raw))
	}
	return strings.Join(all, "\n")
}
