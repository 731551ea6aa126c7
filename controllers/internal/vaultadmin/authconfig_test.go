package vaultadmin

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestAuthConfigurationIsMerged checks that nothing is written without a change, and that a write
// keeps all other settings.
func TestAuthConfigurationIsMerged(t *testing.T) {
	const host, jwt = "https://kubernetes.example.com:6443", "aa.bb.cc"
	ca := authority(t)
	// existing is what Vault returns, with the given reviewer.
	existing := func(reviewer any) map[string]any {
		return map[string]any{
			"kubernetes_host": host, "kubernetes_ca_cert": ca, "pem_keys": nil, "issuer": "theirs",
			"disable_iss_validation": false, "disable_local_ca_jwt": true, reviewerSet: reviewer,
		}
	}
	written := func(change map[string]any) map[string]any {
		data := map[string]any{
			"kubernetes_host": host, "kubernetes_ca_cert": ca, "issuer": "theirs", "disable_iss_validation": false, "disable_local_ca_jwt": true,
		}
		for field, value := range change {
			data[field] = value
		}
		return data
	}
	tests := map[string]struct {
		setup    Setup
		existing map[string]any
		want     map[string]any
		wantErr  string
	}{
		"first":                          {setup: Setup{KubernetesHost: host}, want: map[string]any{"kubernetes_host": host}},
		"first, without a host":          {setup: Setup{TokenReviewerJWT: jwt}, wantErr: "--kubernetes-host"},
		"nothing changes":                {setup: Setup{KubernetesHost: host, KubernetesCA: "a comment\n" + ca}, existing: existing(true)},
		"the host in other letters":      {setup: Setup{KubernetesHost: "HTTPS://Kubernetes.example.com:6443/"}, existing: existing(true)},
		"the reviewer would be lost":     {setup: Setup{KubernetesHost: "https://other"}, existing: existing(true), wantErr: "--token-reviewer-jwt-file"},
		"an older Vault does not say":    {setup: Setup{KubernetesCA: "other"}, existing: existing(nil), wantErr: "--token-reviewer-jwt-file"},
		"the reviewer is Vault's own":    {setup: Setup{KubernetesHost: "https://other"}, existing: existing(false), want: written(map[string]any{"kubernetes_host": "https://other"})},
		"another CA, and the reviewer":   {setup: Setup{KubernetesCA: "other", TokenReviewerJWT: jwt}, existing: existing(true), want: written(map[string]any{"kubernetes_ca_cert": "other", "token_reviewer_jwt": jwt})},
		"the reviewer alone":             {setup: Setup{TokenReviewerJWT: jwt}, existing: existing(true), want: written(map[string]any{"token_reviewer_jwt": jwt})},
		"the reviewer of an older mount": {setup: Setup{TokenReviewerJWT: jwt}, existing: existing(nil), want: written(map[string]any{"token_reviewer_jwt": jwt})},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, changed, err := tc.setup.mergeAuthConfiguration(tc.existing)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want one that names %s", err, tc.wantErr)
				}
				return
			}
			if diff := cmp.Diff(tc.want, got); err != nil || diff != "" {
				t.Errorf("error %v, written (-want +got): %s", err, diff)
			}
			if text := strings.Join(changed, " "); (text == "") != (tc.want == nil) || strings.Contains(text, jwt) {
				t.Errorf("it reports the changes %q", text)
			}
		})
	}
}

func TestCanonicalHost(t *testing.T) {
	tests := map[string]struct {
		a, b string
		want bool
	}{
		"slash":           {a: "https://a", b: "https://a/", want: true},
		"case":            {a: "https://a.example", b: "HTTPS://A.Example", want: true},
		"default port":    {a: "https://a", b: "https://a:443", want: true},
		"plain port":      {a: "http://a:80", b: "http://a", want: true},
		"IPv6":            {a: "https://[::1]", b: "https://[::1]:443/", want: true},
		"another port":    {a: "https://a", b: "https://a:6443", want: false},
		"another scheme":  {a: "https://a:80", b: "http://a:80", want: false},
		"another path":    {a: "https://a/k8s/clusters/c-1", b: "https://a/k8s/clusters/C-1", want: false},
		"another cluster": {a: "https://a", b: "https://b", want: false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := canonicalHost(tc.a) == canonicalHost(tc.b); got != tc.want {
				t.Errorf("%s and %s: %v", tc.a, tc.b, got)
			}
		})
	}
}

func TestValidateKubernetesHost(t *testing.T) {
	for host, want := range map[string]bool{
		"https://kubernetes.default.svc": true, "https://[::1]:6443/": true, "https://rancher/k8s/clusters/c-1": true,
		"kubernetes.default.svc": false, "kubernetes:6443": false, "https://": false, "ftp://a": false, "https://user:password@a": false, "https://a?b": false,
	} {
		if err := ValidateKubernetesHost(host); (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestValidateKubernetesCA(t *testing.T) {
	ca, other := authority(t), authority(t)
	key := "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
	tests := map[string]struct {
		text string
		want bool
	}{
		"a certificate":           {text: ca, want: true},
		"two, with a comment":     {text: "theirs\n" + ca + "ours\n" + other, want: true},
		"empty":                   {text: "", want: false},
		"space only":              {text: " \n", want: false},
		"no PEM":                  {text: "ca.crt", want: false},
		"not a certificate":       {text: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", want: false},
		"a private key":           {text: key, want: false},
		"a private key beside it": {text: ca + key, want: false},
		"cut off":                 {text: ca + other[:len(other)-30], want: false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := ValidateKubernetesCA(tc.text)
			if (err == nil) != tc.want || err != nil && strings.Contains(err.Error(), "AAAA") {
				t.Errorf("error %v, want none that has the certificate's bytes, and one only if it is unsuitable: %t", err, !tc.want)
			}
		})
	}
}

func TestSameCA(t *testing.T) {
	a, b := authority(t), authority(t)
	tests := map[string]struct {
		a, b string
		want bool
	}{
		"line ends":      {a: a, b: strings.ReplaceAll(a, "\n", "\r\n"), want: true},
		"order":          {a: a + b, b: b + a, want: true},
		"another":        {a: a, b: b, want: false},
		"one more":       {a: a, b: a + b, want: false},
		"no certificate": {a: "", b: "", want: false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := sameCA(tc.a, tc.b); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
