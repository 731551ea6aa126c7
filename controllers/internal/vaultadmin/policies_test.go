package vaultadmin

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden file")

// TestGolden compares policies and roles with a reviewed file, so that a change of a right is
// visible.
func TestGolden(t *testing.T) {
	setup := Setup{
		ClusterID: "11111111-1111-1111-1111-111111111111", OperatorNamespace: "securenotes-system",
		OperatorServiceAccount: "securenotes-operator", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", Audience: "vault",
	}
	var b strings.Builder
	for _, policy := range setup.Policies("auth_kubernetes_1") {
		b.WriteString("# policy " + policy.Name + "\n" + policy.Rules + "\n")
	}
	for _, role := range setup.Roles() {
		raw, err := json.MarshalIndent(role.Parameters, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString("# role " + role.Name + "\n" + string(raw) + "\n")
	}
	setup.AllowTrim = true
	for _, policy := range setup.Policies("auth_kubernetes_1") {
		if strings.HasSuffix(policy.Name, "operator") {
			b.WriteString("# with --allow-trim, policy " + policy.Name + "\n" + policy.Rules + "\n")
		}
	}
	setup.AllowTrim, setup.AllowShred = false, true
	for _, policy := range setup.Policies("auth_kubernetes_1") {
		if strings.HasSuffix(policy.Name, "operator") {
			b.WriteString("# with --allow-shred, policy " + policy.Name + "\n" + policy.Rules + "\n")
		}
	}
	setup.AllowShred, setup.DatabaseMount = false, "database"
	for _, policy := range setup.Policies("auth_kubernetes_1") {
		b.WriteString("# with --database-mount database, policy " + policy.Name + "\n" + policy.Rules + "\n")
	}
	const path = "testdata/setup.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s (go test -update rewrites it): %s", path, diff)
	}
}

// TestPolicyNamesOfMounts checks that neither two auth mounts nor two clusters share a policy.
func TestPolicyNamesOfMounts(t *testing.T) {
	seen := map[string]string{}
	for _, mount := range []string{"a/b", "a-b", "a--b", "a/-b", "a-/b", "a/b/c", "a-b-c", "a/b-c", "a-b/c", "a.b", "a_.b", "A", "a", "_a", "__a", "_A", "kubernetes"} {
		name := Setup{ClusterID: "cluster", AuthMount: mount}.policyName("api")
		if other, taken := seen[name]; taken || name != strings.ToLower(name) {
			t.Errorf("%s and %s both have the policy %s", mount, other, name)
		}
		seen[name] = mount
	}
	for _, setup := range []Setup{
		{ClusterID: "eu", AuthMount: "kube-prod"}, {ClusterID: "eu-kube", AuthMount: "prod"}, {ClusterID: "eu-kube-prod", AuthMount: "a"},
		{ClusterID: "11111111", AuthMount: "1111-1111-1111-111111111111-kubernetes"},
		{ClusterID: "11111111-1111-1111-1111-111111111111", AuthMount: "kubernetes"},
	} {
		name := setup.policyName("api")
		if other, taken := seen[name]; taken {
			t.Errorf("%+v and %s both have the policy %s", setup, other, name)
		}
		seen[name] = setup.ClusterID + " at " + setup.AuthMount
	}
}
