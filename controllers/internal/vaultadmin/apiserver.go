package vaultadmin

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mustTrustThisCluster returns an error if the auth mount trusts, or may trust, the API server of
// another cluster. The accounts of the trusted cluster can log in with every role of a mount. With
// a new API server, this cluster's accounts would get the rights of the other cluster's roles; with
// the old one, the other cluster's accounts would get ours. known reports that the mount has roles
// of this cluster.
func (r *setupRun) mustTrustThisCluster(ctx context.Context, configured map[string]any, known bool) error {
	host, _ := configured["kubernetes_host"].(string)
	if host == "" {
		return nil
	}
	if !known && r.KubernetesHost == "" {
		return fmt.Errorf("auth mount %s trusts the API server %s, and has no roles of cluster %s yet: if that is this cluster's "+
			"API server, say so with --kubernetes-host %s; otherwise choose another mount with --auth-mount", r.AuthMount, host, r.ClusterID, host)
	}
	replaced := r.replacedAPIServer(configured)
	if replaced == "" {
		return nil
	}
	others, err := r.otherRoles(ctx)
	if err != nil {
		return err
	}
	effect := "the accounts of the new API server's cluster could then log in with every role of the mount"
	if len(others) > 0 {
		effect += ", also with " + strings.Join(others, ", ")
	}
	if r.ReplaceAPIServer {
		r.say("Warning: auth mount %s trusts %s: %s", r.AuthMount, replaced, effect)
		return nil
	}
	return fmt.Errorf("auth mount %s trusts %s, and %s: choose another mount with --auth-mount; if this cluster takes "+
		"the place of the one that the mount trusts, or its certificate authority was renewed, add --replace-api-server", r.AuthMount, replaced, effect)
}

// replacedAPIServer returns the trusted host or CA that the given one would replace. A CA replaces
// nothing if none was configured.
func (s Setup) replacedAPIServer(configured map[string]any) string {
	host, _ := configured["kubernetes_host"].(string)
	if s.KubernetesHost != "" && canonicalHost(s.KubernetesHost) != canonicalHost(host) {
		return "the API server " + host + ", not " + s.KubernetesHost
	}
	ca, _ := configured["kubernetes_ca_cert"].(string)
	if s.KubernetesCA != "" && strings.TrimSpace(ca) != "" && !sameCA(s.KubernetesCA, ca) {
		return "another certificate authority for the API server " + host + " than that of --kubernetes-ca-file"
	}
	return ""
}

// otherRoles returns the roles of the auth mount that vault-setup has not written.
func (r *setupRun) otherRoles(ctx context.Context) ([]string, error) {
	path := "auth/" + r.AuthMount + "/role"
	secret, err := r.client.Logical().ListWithContext(ctx, path)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", path, err)
	}
	if secret == nil {
		return nil, nil
	}
	own := map[string]bool{}
	for _, role := range r.Roles() {
		own[role.Name] = true
	}
	keys, _ := secret.Data["keys"].([]any)
	var names []string
	for _, key := range keys {
		if name := fmt.Sprint(key); !own[name] {
			names = append(names, name)
		}
	}
	return names, nil
}

// ValidateKubernetesCA returns an error unless text has PEM certificates and no other PEM block.
// Vault shows the text to everybody who may read the configuration, so it must not have a private
// key.
func ValidateKubernetesCA(text string) error {
	blocks := pemBlocks(text)
	if len(blocks) == 0 {
		return errors.New("it has no certificate in PEM")
	}
	if len(blocks) != strings.Count(text, "-----BEGIN ") {
		return errors.New("it has a PEM block that cannot be read")
	}
	for _, block := range blocks {
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("it has a PEM block of type %s: it must have certificates only", block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("it has a certificate that cannot be read: %w", err)
		}
	}
	return nil
}

// sameCA compares sets of certificates. It ignores their order and the text around them.
func sameCA(a, b string) bool {
	order := func(x, y *pem.Block) int { return bytes.Compare(x.Bytes, y.Bytes) }
	one, other := pemBlocks(a), pemBlocks(b)
	slices.SortFunc(one, order)
	slices.SortFunc(other, order)
	return len(one) > 0 && slices.EqualFunc(one, other, func(x, y *pem.Block) bool { return bytes.Equal(x.Bytes, y.Bytes) })
}

func pemBlocks(text string) []*pem.Block {
	var blocks []*pem.Block
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return blocks
		}
		blocks = append(blocks, block)
	}
}
