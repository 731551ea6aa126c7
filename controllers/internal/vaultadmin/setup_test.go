package vaultadmin

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// setupVault fakes what vault-setup uses of Vault, and records the written paths.
type setupVault struct {
	mu sync.Mutex
	// data has the path as key. The mounts of secrets engines and auth methods are below sys.
	data    map[string]map[string]any
	written []string
	// deletions is the number of the deletion that fails. 0: none.
	deletions int
}

func (f *setupVault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := strings.TrimPrefix(r.URL.Path, "/v1/")
	answer := map[string]any{}
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("list") == "true":
		var keys []string
		for entry := range f.data {
			if name, ok := strings.CutPrefix(entry, path+"/"); ok {
				keys = append(keys, name)
			}
		}
		answer["keys"] = keys
	case r.Method == http.MethodGet && (path == "sys/auth" || path == "sys/mounts"):
		for entry, mount := range f.data {
			if name, ok := strings.CutPrefix(entry, path+"/"); ok {
				answer[name+"/"] = mount
			}
		}
	case r.Method == http.MethodGet:
		if answer = f.data[path]; answer == nil {
			http.Error(w, `{"errors":[]}`, http.StatusNotFound)
			return
		}
	case r.Method == http.MethodDelete:
		if f.deletions--; f.deletions == 0 {
			http.Error(w, `{"errors":["interrupted"]}`, http.StatusBadRequest)
			return
		}
		delete(f.data, path)
		delete(f.data, path+"/config")
		w.WriteHeader(http.StatusNoContent)
		return
	default:
		f.written = append(f.written, path)
		body := map[string]any{}
		if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		delete(body, "config")
		f.data[path] = body
		w.WriteHeader(http.StatusNoContent)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
}

func (f *setupVault) client(t *testing.T) *api.Client {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// authority returns a new certificate authority in PEM.
func authority(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
}

// TestSetupRefuses checks that vault-setup fails before the first write, in a Vault without the
// secrets engines, and that it accepts only what is known to belong to its cluster.
func TestSetupRefuses(t *testing.T) {
	const host = "https://theirs.example.com:6443"
	ca, otherCA := authority(t), authority(t)
	role := func(policies ...any) map[string]any { return map[string]any{"token_policies": policies} }
	trusting := func(more map[string]any) map[string]map[string]any {
		config := map[string]any{"kubernetes_host": host, "kubernetes_ca_cert": ca, reviewerSet: false}
		for field, value := range more {
			config[field] = value
		}
		return map[string]map[string]any{
			"auth/kubernetes/config":        config,
			"auth/kubernetes/role/payments": role("payments"),
		}
	}
	const apiRole = "auth/kubernetes/role/securenotes-api"
	ours := func(vault map[string]map[string]any) map[string]map[string]any {
		vault[apiRole] = role("securenotes-prod-kubernetes-api")
		return vault
	}
	one := func(path string, data map[string]any) map[string]map[string]any {
		return map[string]map[string]any{path: data}
	}
	tests := map[string]struct {
		vault   map[string]map[string]any
		setup   Setup
		wantErr string
	}{
		"an empty Vault":                          {},
		"an auth mount of another type":           {vault: one("sys/auth/kubernetes", map[string]any{"type": "jwt"}), wantErr: "--auth-mount"},
		"a transit mount of another type":         {vault: one("sys/mounts/transit", map[string]any{"type": "kv"}), wantErr: "--transit-mount"},
		"kv of version 1":                         {vault: one("sys/mounts/secret", map[string]any{"type": "kv", "options": map[string]string{"version": "1"}}), wantErr: "--kv-mount"},
		"a role of a cluster with a longer id":    {vault: one(apiRole, role("securenotes-prod-eu-kubernetes-api")), wantErr: "securenotes-prod-eu-kubernetes-api"},
		"a role of a cluster with a shorter id":   {vault: one(apiRole, role("securenotes-prod-kubernetes-api")), setup: Setup{ClusterID: "prod-eu"}, wantErr: "securenotes-prod-kubernetes-api"},
		"a role with the policy of another mount": {vault: one(apiRole, role("securenotes-prod-eu-api")), wantErr: "securenotes-prod-eu-api"},
		"a role with the policy of another role":  {vault: one(apiRole, role("securenotes-prod-kubernetes-operator")), wantErr: "securenotes-prod-kubernetes-operator"},
		"a role with a policy of others":          {vault: one(apiRole, role("payments")), wantErr: "payments"},
		"a role with one more policy":             {vault: one(apiRole, role("securenotes-prod-kubernetes-api", "payments")), wantErr: "payments"},
		"a role without a policy":                 {vault: one(apiRole, role()), wantErr: "vault delete " + apiRole},
		"an own role":                             {vault: one(apiRole, role("securenotes-prod-kubernetes-api"))},
		"an own role of the previous release":     {vault: one("auth/kube-eu/role/securenotes-api", role("securenotes-prod-kube-eu-api")), setup: Setup{AuthMount: "kube-eu"}},
		"a policy of another cluster": {
			vault:   one("sys/policies/acl/securenotes-prod-kubernetes-operator", map[string]any{"policy": `path "transit/keys/sn-prod-eu.*" { capabilities = ["read"] }`}),
			wantErr: "securenotes-prod-kubernetes-operator",
		},
		"a policy of another cluster, with audit keys": {
			vault:   one("sys/policies/acl/securenotes-prod-kubernetes-api", map[string]any{"policy": `path "transit/sign/sn-audit-eu.demo.*" { capabilities = ["update"] }`}),
			wantErr: "securenotes-prod-kubernetes-api",
		},
		"a policy of another cluster, with backup keys": {
			vault:   one("sys/policies/acl/securenotes-prod-kubernetes-backup", map[string]any{"policy": `path "transit/sign/sn-backup-eu.demo.*" { capabilities = ["update"] }`}),
			wantErr: "securenotes-prod-kubernetes-backup",
		},
		"a role for backups of another cluster": {
			vault:   one("auth/kubernetes/role/securenotes-backup", role("securenotes-prod-eu-kubernetes-backup")),
			wantErr: "securenotes-prod-eu-kubernetes-backup",
		},
		"a role for backups with the rights of escrow": {
			vault:   one("auth/kubernetes/role/securenotes-backup", role("securenotes-prod-kubernetes-backup-escrow")),
			wantErr: "securenotes-prod-kubernetes-backup-escrow",
		},
		"an own policy, damaged": {
			vault: one("sys/policies/acl/securenotes-prod-kubernetes-operator", map[string]any{"policy": `path "transit/keys/sn-prod.*" { capabilities = ["read"] }`}),
		},

		"the mount trusts the same API server":    {vault: trusting(nil), setup: Setup{KubernetesHost: "HTTPS://Theirs.example.com:6443/"}},
		"the mount trusts another API server":     {vault: trusting(nil), setup: Setup{KubernetesHost: "https://ours.example.com:6443"}, wantErr: "--replace-api-server"},
		"the mount has roles of others":           {vault: trusting(nil), setup: Setup{KubernetesHost: "https://ours.example.com:6443"}, wantErr: "payments"},
		"another API server, with own roles":      {vault: ours(trusting(nil)), setup: Setup{KubernetesHost: "https://ours.example.com:6443"}, wantErr: "--replace-api-server"},
		"another API server, which replaces it":   {vault: trusting(nil), setup: Setup{KubernetesHost: "https://ours.example.com:6443", ReplaceAPIServer: true}},
		"another CA at the same host":             {vault: trusting(nil), setup: Setup{KubernetesHost: host, KubernetesCA: otherCA}, wantErr: "--replace-api-server"},
		"another CA alone":                        {vault: ours(trusting(nil)), setup: Setup{KubernetesCA: otherCA}, wantErr: "--replace-api-server"},
		"another CA, which replaces it":           {vault: trusting(nil), setup: Setup{KubernetesHost: host, KubernetesCA: otherCA, ReplaceAPIServer: true}},
		"the same CA, written otherwise":          {vault: trusting(nil), setup: Setup{KubernetesHost: host, KubernetesCA: "a comment\n" + strings.ReplaceAll(ca, "\n", "\r\n")}},
		"a CA where there was none":               {vault: trusting(map[string]any{"kubernetes_ca_cert": ""}), setup: Setup{KubernetesHost: host, KubernetesCA: otherCA}},
		"a mount that may be of another cluster":  {vault: trusting(nil), wantErr: "--kubernetes-host " + host},
		"a token reviewer alone, on such a mount": {vault: trusting(nil), setup: Setup{TokenReviewerJWT: "aa.bb.cc"}, wantErr: "--kubernetes-host " + host},
		"a mount that is known to be own":         {vault: ours(trusting(nil))},
		"the reviewer would be lost":              {vault: trusting(map[string]any{reviewerSet: true}), setup: Setup{KubernetesHost: "https://ours.example.com", ReplaceAPIServer: true}, wantErr: "--token-reviewer-jwt-file"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fake := &setupVault{data: map[string]map[string]any{}}
			setup := tc.setup
			setup.OperatorNamespace, setup.OperatorServiceAccount = "securenotes-system", "securenotes-operator"
			setup.TransitMount, setup.KVMount, setup.Audience = "transit", "secret", "vault"
			if setup.ClusterID == "" {
				setup.ClusterID = "prod"
			}
			if setup.AuthMount == "" {
				setup.AuthMount = "kubernetes"
			}
			if len(tc.vault) > 0 {
				fake.data["sys/auth/"+setup.AuthMount] = map[string]any{"type": "kubernetes", "accessor": "a"}
			}
			for path, data := range tc.vault {
				fake.data[path] = data
			}
			var out bytes.Buffer
			err := setup.Apply(t.Context(), fake.client(t), &out, false)
			if tc.wantErr == "" {
				if roles := "auth/" + setup.AuthMount + "/role/securenotes-operator"; err != nil || !slices.Contains(fake.written, roles) {
					t.Errorf("it was not done: %v\n%s", err, out.String())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
				t.Errorf("error %v, want one that names %s", err, tc.wantErr)
			}
			if len(fake.written) > 0 {
				t.Errorf("written before the refusal: %v", fake.written)
			}
		})
	}
}

// TestOtherRoles checks that the warning about another API server names the roles of others, and
// none that vault-setup writes.
func TestOtherRoles(t *testing.T) {
	setup := Setup{ClusterID: "prod", AuthMount: "kubernetes"}
	fake := &setupVault{data: map[string]map[string]any{"auth/kubernetes/role/payments": {}, "auth/kubernetes/role/securenotes-x": {}}}
	for _, role := range setup.Roles() {
		fake.data["auth/kubernetes/role/"+role.Name] = map[string]any{}
	}
	run := &setupRun{Setup: setup, client: fake.client(t)}
	got, err := run.otherRoles(t.Context())
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"payments", "securenotes-x"}) {
		t.Errorf("got %v and error %v", got, err)
	}
}

// TestOwnPolicyNames checks that at one auth mount, no policy name of this or the previous release
// belongs to two clusters.
func TestOwnPolicyNames(t *testing.T) {
	ids := []string{"a", "b", "a-a", "a-b", "b-a", "a-a-b", "a-b-a", "a--b", "a-b-b"}
	for _, mount := range []string{"a", "b", "a-b", "b-a", "a-a-b", "a/b", "a-", "-a", "-", "a_-b", "_a", "a-b_", "A-b"} {
		owner := map[string]string{}
		for _, id := range ids {
			for _, name := range (Setup{ClusterID: id, AuthMount: mount}).ownPolicyNames("api") {
				if other, taken := owner[name]; taken && other != id {
					t.Errorf("%s at %s is of the clusters %s and %s", name, mount, other, id)
				}
				owner[name] = id
			}
		}
	}
	got := Setup{ClusterID: "a", AuthMount: "x-y_"}.ownPolicyNames("api")
	if want := []string{"securenotes-a-x_-y__-api", "securenotes-a-x-y__-api"}; !slices.Equal(got, want) {
		t.Errorf("names %v, want %v", got, want)
	}
}

// TestRulesEndTheClusterID checks that no rule for a cluster matches a cluster whose id begins with
// that cluster's.
func TestRulesEndTheClusterID(t *testing.T) {
	setup := Setup{ClusterID: "prod", AuthMount: "kubernetes", TransitMount: "transit", KVMount: "secret", DatabaseMount: "database", AllowTrim: true, AllowShred: true}
	for _, policy := range setup.Policies("a") {
		ended := strings.Count(policy.Rules, "sn-prod.") + strings.Count(policy.Rules, "sn-audit-prod.") + strings.Count(policy.Rules, "sn-backup-prod.") + strings.Count(policy.Rules, "securenotes/prod/")
		if all := strings.Count(policy.Rules, "prod"); ended == 0 || all != ended {
			t.Errorf("%s: %d of %d ids are ended:\n%s", policy.Name, ended, all, policy.Rules)
		}
	}
}
