package main

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestPolicyOfConfig checks that config/policy names the service account of config/rbac, because
// kustomize cannot replace a part of an expression.
func TestPolicyOfConfig(t *testing.T) {
	raw, err := os.ReadFile("../../config/rbac/service_account.yaml")
	if err != nil {
		t.Fatal(err)
	}
	account, policy := corev1.ServiceAccount{}, ""
	if err := yaml.UnmarshalStrict(raw, &account); err != nil {
		t.Fatal(err)
	}
	if account.Namespace == "" || account.Name == "" {
		t.Fatalf("config/rbac/service_account.yaml names %q in namespace %q", account.Name, account.Namespace)
	}
	for _, file := range []string{"objects.yaml", "pods.yaml", "requests.yaml"} {
		raw, err := os.ReadFile("../../config/policy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		policy += string(raw)
	}
	for want, times := range map[string]int{
		`expression: "'securenotes.dev/securenotes:dev'"`:                                                     1,
		"request.userInfo.username == 'system:serviceaccount:" + account.Namespace + ":" + account.Name + "'": 3,
		"request.namespace != '" + account.Namespace + "'":                                                    1,
	} {
		if got := strings.Count(policy, want); got != times {
			t.Errorf("config/policy has %d times %s, want %d", got, want, times)
		}
	}
}
