package main

import (
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestPolicyOfConfig: config/policy repeats what config/manager says, because kustomize cannot fill
// in a part of an expression.
func TestPolicyOfConfig(t *testing.T) {
	configuration, policy := map[string]any{}, ""
	raw, err := os.ReadFile("../../config/manager/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &configuration); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"objects.yaml", "pods.yaml", "requests.yaml"} {
		raw, err := os.ReadFile("../../config/policy/" + file)
		if err != nil {
			t.Fatal(err)
		}
		policy += string(raw)
	}
	text := func(key string) string {
		value, ok := configuration[key].(string)
		if !ok {
			t.Fatalf("config/manager/config.yaml has no %s", key)
		}
		return value
	}
	account := "system:serviceaccount:" + text("operatorNamespace") + ":" + text("operatorServiceAccount")
	for want, times := range map[string]int{
		`expression: "'` + text("operandImage") + `'"`:             1,
		"request.userInfo.username == '" + account + "'":           3,
		"request.namespace != '" + text("operatorNamespace") + "'": 1,
	} {
		if got := strings.Count(policy, want); got != times {
			t.Errorf("config/policy has %d times %s, want %d", got, want, times)
		}
	}
}
