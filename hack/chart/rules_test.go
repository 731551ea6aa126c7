package main

import (
	"bytes"
	"os"
	"slices"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// TestRights checks that the operator can neither read Secrets, which it only mounts, nor grant
// rights that it does not have.
func TestRights(t *testing.T) {
	raw, err := os.ReadFile("../../config/rbac/role.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for document := range bytes.SplitSeq(raw, []byte("\n---\n")) {
		role := rbacv1.ClusterRole{}
		if err := yaml.Unmarshal(document, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				if slices.Contains([]string{"secrets", "serviceaccounts/token", "pods/exec", "*"}, resource) {
					t.Errorf("%s: a right to %s", role.Kind, resource)
				}
			}
			for _, verb := range rule.Verbs {
				if slices.Contains([]string{"bind", "escalate", "impersonate", "*"}, verb) {
					t.Errorf("%s: the right to %s %v", role.Kind, verb, rule.Resources)
				}
			}
		}
	}
}
