//go:build integration

package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
)

// TestSetupTakesNothingAway: vault-setup keeps the token reviewer, which Vault does not return and
// a write without it deletes, the fields of the configuration that it does not set, and the rights
// of an earlier run. Its trial login shows that logins work.
func TestSetupTakesNothingAway(t *testing.T) {
	c, _ := apart(t, apartOptions{noOperator: true})
	root := c.vault.Client(t).Logical()
	config := func() map[string]any {
		t.Helper()
		secret, err := root.Read("auth/" + c.authMount + "/config")
		if err != nil {
			t.Fatal(err)
		}
		return secret.Data
	}
	run := func(t *testing.T, typed string, args ...string) (string, error) {
		t.Helper()
		return c.administrator(t, typed, append([]string{"vault-setup", "--cluster-id", c.id, "--auth-mount", c.authMount,
			"--operator-namespace", operatorNamespace, "--operator-service-account", operatorAccount}, args...)...)
	}
	must := func(t *testing.T, typed, want string, args ...string) {
		t.Helper()
		if out, err := run(t, typed, args...); err != nil || !strings.Contains(out, want) {
			t.Fatalf("vault-setup %v: %v; no %q in\n%s", args, err, want, out)
		}
	}
	const works = "trial login as the operator: done"
	policy := func() string {
		t.Helper()
		_, rules := c.operatorPolicy(t)
		return rules
	}

	t.Run("the same server, written otherwise", func(t *testing.T) {
		must(t, "", works, "--kubernetes-host", strings.Replace(strings.TrimRight(c.rest.Host, "/"), "https", "HTTPS", 1))
		if got := config(); got["kubernetes_host"] != c.rest.Host || got["token_reviewer_jwt_set"] != true {
			t.Errorf("configuration: %v", got)
		}
	})
	t.Run("another server without a token reviewer", func(t *testing.T) {
		out, err := run(t, "", "--replace-api-server", "--kubernetes-host", "https://other.example.com")
		if err == nil || !strings.Contains(err.Error(), "--token-reviewer-jwt-file") {
			t.Errorf("it is not rejected: %v\n%s", err, out)
		}
		must(t, "", works)
	})
	t.Run("a new token reviewer", func(t *testing.T) {
		// A write of everything that a read returns makes Vault forget the JWT.
		before := config()
		before["issuer"] = "https://issuer.example.com"
		if _, err := root.Write("auth/"+c.authMount+"/config", before); err != nil {
			t.Fatal(err)
		}
		if out, err := run(t, ""); err == nil || !strings.Contains(err.Error(), "trial login") || config()["token_reviewer_jwt_set"] != false {
			t.Errorf("Vault cannot review tokens, and vault-setup says: %v\n%s", err, out)
		}
		jwt := c.token(t, operatorNamespace, "vault")
		must(t, jwt+"\n", works, "--token-reviewer-jwt-file", "-")
		got := config()
		if got["issuer"] != "https://issuer.example.com" || got["kubernetes_host"] != c.rest.Host {
			t.Errorf("configuration: %v", got)
		}
		if out, err := run(t, "bm8gSldU", "--token-reviewer-jwt-file", "-"); err == nil || strings.Contains(err.Error()+out, "bm8gSldU") {
			t.Errorf("what is no JWT: %v\n%s", err, out)
		}
	})
	t.Run("rights of an earlier run", func(t *testing.T) {
		before := policy()
		must(t, "", works, "--allow-trim", "--database-mount", "database")
		granted := policy()
		must(t, "", works)
		if got := policy(); got != granted || granted == before {
			t.Errorf("the second run changed\n%s\nto\n%s", granted, got)
		}
		must(t, "", works, "--allow-trim=false", "--database-mount=")
		if got := policy(); got != before {
			t.Errorf("the rights were not withdrawn:\n%s", got)
		}
	})
	t.Run("other settings", func(t *testing.T) {
		before := policy()
		for _, flags := range [][]string{{"--transit-mount", "transit-eu"}, {"--kv-mount", "kv-eu"}, {"--audience", "eu"}, {"--operator-namespace", "eu"}} {
			if out, err := run(t, "", flags...); err == nil || !strings.Contains(err.Error(), flags[0]+" was ") || !strings.Contains(err.Error(), "--replace-settings") {
				t.Errorf("vault-setup %v is not rejected: %v\n%s", flags, err, out)
			}
		}
		if got := policy(); got != before {
			t.Errorf("the policy was changed:\n%s", got)
		}
		must(t, "", works)
	})
	t.Run("no trial login", func(t *testing.T) {
		must(t, "", "Warning: the trial login as the operator was skipped", "--operator-service-account", "not-there", "--replace-settings")
		must(t, "", works, "--replace-settings")
	})
	t.Run("another cluster than that of KUBECONFIG", func(t *testing.T) {
		fresh := []string{"--cluster-id", "fresh", "--auth-mount", "fresh", "--kubernetes-host", "https://other.example.com", "--kubernetes-ca-file", c.vault.CAFile}
		must(t, "", "would configure auth method fresh: kubernetes_host https://other.example.com", append(fresh, "--dry-run")...)
		t.Cleanup(func() {
			if err := c.vault.Client(t).Sys().DisableAuth("fresh"); err != nil {
				t.Error(err)
			}
		})
		must(t, "", "may not be the one with the id fresh", fresh...)
	})
	t.Run("a mount of another cluster", func(t *testing.T) { testMountOfAnotherCluster(t, c) })
}

// testMountOfAnotherCluster: vault-setup does not change an auth mount of another cluster, whether
// that cluster uses SecureNotes under an id that begins with this one's, or does not use them.
func testMountOfAnotherCluster(t *testing.T, c *cluster) {
	root := c.vault.Client(t)
	run := func(t *testing.T, args ...string) (string, error) {
		t.Helper()
		return c.administrator(t, "", append([]string{"vault-setup", "--cluster-id", "prod", "--operator-namespace", operatorNamespace,
			"--operator-service-account", operatorAccount, "--auth-mount", "theirs", "--transit-mount", "theirs-transit"}, args...)...)
	}
	if err := root.Sys().EnableAuthWithOptions("theirs", &api.EnableAuthOptions{Type: "kubernetes"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.vault.Client(t).Sys().DisableAuth("theirs"); err != nil {
			t.Error(err)
		}
	})
	const theirs = "https://theirs.example.com:6443"
	written := map[string]map[string]any{
		"auth/theirs/config": {"kubernetes_host": theirs, "kubernetes_ca_cert": string(c.rest.CAData)},
		"auth/theirs/role/payments": {
			"bound_service_account_names": "*", "bound_service_account_namespaces": "*", "token_policies": "payments",
		},
	}
	for path, data := range written {
		if _, err := root.Logical().Write(path, data); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(t *testing.T, want string, args ...string) {
		t.Helper()
		out, err := run(t, args...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("it is not rejected: %v\n%s", err, out)
		}
		if got, err := root.Logical().Read("auth/theirs/config"); err != nil || got.Data["kubernetes_host"] != theirs {
			t.Errorf("configuration: %v, %v", got, err)
		}
		if mounts, err := root.Sys().ListMounts(); err != nil || mounts["theirs-transit/"] != nil {
			t.Errorf("a secrets engine was enabled: %v", err)
		}
		if got, err := root.Sys().GetPolicy("securenotes-prod-theirs-api"); err != nil || got != "" {
			t.Errorf("a policy was written: %v", err)
		}
	}
	refused(t, "payments", "--kubernetes-host", c.rest.Host)
	refused(t, "--kubernetes-host "+theirs)
	refused(t, "--replace-api-server", "--kubernetes-host", theirs, "--kubernetes-ca-file", c.vault.CAFile)

	role := map[string]any{
		"bound_service_account_names": "*-securenotes-api", "bound_service_account_namespaces": "*", "token_policies": "securenotes-prod-eu-theirs-api",
	}
	const path = "auth/theirs/role/securenotes-api"
	if _, err := root.Logical().Write(path, role); err != nil {
		t.Fatal(err)
	}
	refused(t, "securenotes-prod-eu-theirs-api", "--kubernetes-host", theirs)
	refused(t, "securenotes-prod-eu-theirs-api", "--kubernetes-host", c.rest.Host, "--replace-api-server")
	if got, err := root.Logical().Read(path); err != nil || fmt.Sprint(got.Data["token_policies"]) != "[securenotes-prod-eu-theirs-api]" {
		t.Errorf("the role: %v, %v", got, err)
	}
}
