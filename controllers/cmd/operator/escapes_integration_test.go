//go:build integration

package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/hashicorp/vault/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// login logs in to Vault as a service account.
func (c *cluster) login(t *testing.T, role, namespace, account string, audiences ...string) (*api.Client, error) {
	t.Helper()
	c.namespace(t, namespace)
	c.serviceAccount(t, namespace, account)
	client := c.vault.Client(t)
	client.ClearToken()
	secret, err := client.Logical().WriteWithContext(context.Background(), "auth/"+c.authMount+"/login", map[string]any{
		"role": role, "jwt": c.token(t, namespace, account, audiences...),
	})
	if err != nil {
		return nil, err
	}
	client.SetToken(secret.Auth.ClientToken)
	return client, nil
}

func refused(err error) bool {
	response, ok := errors.AsType[*api.ResponseError](err)
	return ok && response.StatusCode == http.StatusForbidden
}

// attempt is one request that an identity must not be able to make.
type attempt struct {
	method, path string
	data         map[string]any
}

func (a attempt) run(client *api.Client) error {
	var err error
	switch a.method {
	case "read":
		_, err = client.Logical().Read(a.path)
	case "list":
		_, err = client.Logical().List(a.path)
	case "delete":
		_, err = client.Logical().Delete(a.path)
	default:
		_, err = client.Logical().Write(a.path, a.data)
	}
	return err
}

// testEscapes tries, with each identity, requests that would reach beyond its own part.
func TestEscapes(t *testing.T) {
	t.Parallel()
	c, namespace := shared(t)
	if err := c.Create(t.Context(), postgresNotes(namespace, "notes")); err != nil {
		t.Fatal(err)
	}
	c.awaitCondition(t, namespace, "notes", v1alpha1.ConditionVaultReady, metav1.ConditionTrue, v1alpha1.ReasonReady)
	own := config.TransitKeyName(c.id, namespace, "notes")
	other := config.TransitKeyName("00000000-0000-0000-0000-000000000000", namespace, "notes")
	directory := "secret/data/" + config.KVPath(c.id, namespace, "notes")
	elsewhere := "secret/data/" + config.KVPath("00000000-0000-0000-0000-000000000000", namespace, "notes")
	// A missing entry could not show that reading it is denied.
	root := c.vault.Client(t).Logical()
	for path, data := range map[string]map[string]any{
		"transit/keys/" + other: {"derived": true}, elsewhere + "/marker": {"data": map[string]any{"uid": "x", "deploymentID": "x"}},
		directory + "/session-keys": {"data": map[string]any{"a": "b"}}, elsewhere + "/session-keys": {"data": map[string]any{"a": "b"}}, elsewhere + "/session-keys-2": {"data": map[string]any{"a": "b"}},
		directory + "/session-keys-2": {"data": map[string]any{"a": "b"}}, directory + "/pepper-2": {"data": map[string]any{"a": "b"}},
	} {
		if _, err := root.Write(path, data); err != nil {
			t.Fatal(err)
		}
	}
	rights := map[string]any{"data": map[string]any{"a": "b"}}
	context64 := "AAAA"
	forAll := []attempt{
		{"write", "sys/policies/acl/securenotes-" + c.id + "-operator", map[string]any{"policy": `path "*" { capabilities = ["sudo"] }`}},
		{"write", "auth/kubernetes/role/securenotes-operator", map[string]any{"bound_service_account_names": "*", "bound_service_account_namespaces": "*"}},
		{"write", "auth/token/create", map[string]any{}},
		{"read", "transit/export/encryption-key/" + own, nil},
		{"read", "transit/backup/" + own, nil},
		{"read", "transit/byok-export/" + own + "/" + own, nil},
		{"write", "transit/restore", map[string]any{"backup": "x"}},
		{"list", "transit/keys", nil},
		{"read", "transit/keys/" + other, nil},
		{"read", elsewhere + "/session-keys", nil},
		{"read", elsewhere + "/session-keys-2", nil},
		{"read", elsewhere + "/marker", nil},
		{"write", "transit/datakey/plaintext/" + own, map[string]any{"context": context64}},
		{"write", "transit/keys/" + own + "/config", map[string]any{"exportable": true}},
		{"write", "transit/keys/" + own + "/config", map[string]any{"allow_plaintext_backup": true}},
		{"write", "transit/keys/" + own + "/config", map[string]any{"auto_rotate_period": "1h"}},
		{"write", "transit/keys/" + own + "/trim", map[string]any{"min_available_version": 1}},
		{"write", "transit/keys/" + own + "x/import", map[string]any{"ciphertext": "x"}},
		{"write", "transit/keys/" + own + "x", map[string]any{"exportable": true, "derived": true, "type": "aes256-gcm96"}},
		{"write", directory + "/session-keys", rights},
		{"write", directory + "/session-keys-2", rights},
		{"write", directory + "/pepper", rights},
		{"write", directory + "/pepper-2", rights},
		{"write", "secret/delete/" + config.KVPath(c.id, namespace, "notes") + "/session-keys-2", map[string]any{"versions": []int{1}}},
		{"write", "secret/undelete/" + config.KVPath(c.id, namespace, "notes") + "/session-keys-2", map[string]any{"versions": []int{1}}},
		{"write", "secret/metadata/" + config.KVPath(c.id, namespace, "notes") + "/session-keys-2", map[string]any{"max_versions": 1}},
		{"delete", "secret/metadata/" + config.KVPath(c.id, namespace, "notes") + "/pepper", nil},
		{"delete", "secret/metadata/" + config.KVPath(c.id, namespace, "notes") + "/pepper-2", nil},
		{"delete", directory + "/pepper", nil},
		{"list", "secret/metadata/" + config.KVRoot(c.id), nil},
	}
	encryptOwn := attempt{"write", "transit/encrypt/" + own, map[string]any{"plaintext": "AAAA", "context": context64}}
	signOwn := attempt{"write", "transit/sign/" + config.AuditKeyName(c.id, namespace, "notes"), map[string]any{"input": "AAAA"}}
	identities := map[string]struct {
		role, namespace, account string
		extra                    []attempt
		allowed                  []attempt
	}{
		"operator": {config.RoleOperator, operatorNamespace, operatorAccount, []attempt{
			encryptOwn, signOwn,
			{"write", "transit/keys/" + config.AuditKeyName(c.id, namespace, "x"), map[string]any{"type": "ed25519", "exportable": true}},
			{"write", "transit/decrypt/" + own, map[string]any{"ciphertext": "vault:v1:AAAA", "context": context64}},
			{"write", "transit/rewrap/" + own, map[string]any{"ciphertext": "vault:v1:AAAA", "context": context64}},
			{"read", directory + "/session-keys", nil},
			{"read", directory + "/session-keys-2", nil},
			{"read", directory + "/pepper", nil},
			{"read", directory + "/pepper-2", nil},
		}, []attempt{
			// This is what the previous release does in a Compromise.
			{"write", directory + "/session-keys-77", map[string]any{"data": map[string]any{"a": "b"}, "options": map[string]any{"cas": 0}}},
			{"delete", "secret/metadata/" + config.KVPath(c.id, namespace, "notes") + "/session-keys-77", nil},
		}},
		"api": {config.RoleAPI, namespace, "notes" + config.ServiceAccountAPISuffix, []attempt{
			{"write", "transit/encrypt/" + own + "-missing", encryptOwn.data},
			{"write", "transit/rewrap/" + own, map[string]any{"ciphertext": "vault:v1:AAAA", "context": context64}},
			{"write", "transit/keys/" + own + "/rotate", nil},
			{"read", directory + "/marker", nil},
			{"delete", directory + "/session-keys-2", nil},
			{"delete", "secret/metadata/" + config.KVPath(c.id, namespace, "notes") + "/session-keys-2", nil},
		}, []attempt{
			encryptOwn, signOwn, {"read", directory + "/session-keys", nil}, {"read", directory + "/session-keys-2", nil}, {"read", directory + "/pepper", nil},
			{"read", directory + "/pepper-2", nil},
		}},
		"api of another namespace": {config.RoleAPI, "stranger", "notes" + config.ServiceAccountAPISuffix, []attempt{
			encryptOwn, signOwn,
			{"read", directory + "/session-keys", nil}, {"read", directory + "/session-keys-2", nil}, {"read", directory + "/pepper", nil},
		}, nil},
		"rotation": {config.RoleRotation, namespace, "notes" + config.ServiceAccountRotationSuffix, []attempt{
			signOwn,
			{"write", "transit/keys/" + own + "/rotate", nil},
			{"read", directory + "/session-keys", nil},
			{"read", directory + "/session-keys-2", nil},
			{"read", directory + "/pepper", nil},
		}, []attempt{encryptOwn}},
	}
	for name, identity := range identities {
		t.Run(name, func(t *testing.T) {
			client, err := c.login(t, identity.role, identity.namespace, identity.account, "vault")
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range append(forAll, identity.extra...) {
				if err := a.run(client); !refused(err) {
					t.Errorf("%s %s %v was not rejected: %v", a.method, a.path, a.data, err)
				}
			}
			for _, a := range identity.allowed {
				if err := a.run(client); err != nil {
					t.Errorf("%s %s: %v", a.method, a.path, err)
				}
			}
		})
	}
	t.Run("logins", func(t *testing.T) { testLogins(t, c, namespace) })
}

func testLogins(t *testing.T, c *cluster, namespace string) {
	for name, tc := range map[string]struct{ role, namespace, account, audience string }{
		"operator's role with another account":   {role: config.RoleOperator, namespace: operatorNamespace, account: "default-x", audience: "vault"},
		"operator's role from another namespace": {role: config.RoleOperator, namespace: "stranger", account: operatorAccount, audience: "vault"},
		"api's role with rotation's account":     {role: config.RoleAPI, namespace: namespace, account: "notes" + config.ServiceAccountRotationSuffix, audience: "vault"},
		"a token for the API server":             {role: config.RoleAPI, namespace: namespace, account: "notes" + config.ServiceAccountAPISuffix, audience: "https://kubernetes.default.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.login(t, tc.role, tc.namespace, tc.account, tc.audience); err == nil || strings.Contains(err.Error(), "500") {
				t.Errorf("the login was not rejected: %v", err)
			}
		})
	}
}
