package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// reviewerSet is the field that reports whether Vault has a token reviewer's JWT. Vault never
// returns the JWT.
const reviewerSet = "token_reviewer_jwt_set"

// ValidateKubernetesHost returns an error unless host can be the address of an API server.
func ValidateKubernetesHost(host string) error {
	u, err := url.Parse(host)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return errors.New("it must be a URL such as https://kubernetes.example.com:6443")
	}
	return nil
}

// ValidateTokenReviewerJWT returns an error unless text can be a JWT. The error does not quote it.
func ValidateTokenReviewerJWT(text string) error {
	if strings.Count(text, ".") != 2 || strings.ContainsAny(text, " \t\r\n") {
		return errors.New("it is no JWT: three parts with dots between them. " +
			"In a Secret's YAML the token is in base64: `kubectl create token` and `base64 -d` give it as it is")
	}
	return nil
}

// authChange is what to write to the auth method's configuration, and a description of the changes.
// Without a description there is nothing to write.
type authChange struct {
	data    map[string]any
	changed []string
}

// authConfiguration writes the changes of the auth method's configuration.
func (r *setupRun) authConfiguration(ctx context.Context, change authChange) error {
	if r.KubernetesHost == "" && r.KubernetesCA == "" && r.TokenReviewerJWT == "" {
		return nil
	}
	if len(change.changed) == 0 {
		r.say("configuration of auth method %s: as it should be", r.AuthMount)
		return nil
	}
	return r.step("configure auth method "+r.AuthMount+": "+strings.Join(change.changed, ", "), func() error {
		_, err := r.client.Logical().WriteWithContext(ctx, "auth/"+r.AuthMount+"/config", change.data)
		return err
	})
}

// mergeAuthConfiguration returns the configuration to write, and the changes. A write replaces the
// whole configuration, so settings that were not given are written back. It returns an error if the
// write would delete the token reviewer's JWT, which Vault does not return.
func (s Setup) mergeAuthConfiguration(existing map[string]any) (data map[string]any, changed []string, err error) {
	data = maps.Clone(existing)
	if data == nil {
		data = map[string]any{}
	}
	delete(data, reviewerSet)
	maps.DeleteFunc(data, func(_ string, value any) bool { return value == nil })

	host, _ := data["kubernetes_host"].(string)
	if s.KubernetesHost != "" && canonicalHost(s.KubernetesHost) != canonicalHost(host) {
		data["kubernetes_host"] = s.KubernetesHost
		changed = append(changed, "kubernetes_host "+s.KubernetesHost)
		if host != "" {
			changed[0] += " instead of " + host
		}
	}
	ca, _ := data["kubernetes_ca_cert"].(string)
	if s.KubernetesCA != "" && !sameCA(s.KubernetesCA, ca) {
		data["kubernetes_ca_cert"] = s.KubernetesCA
		changed = append(changed, "kubernetes_ca_cert")
	}
	if s.TokenReviewerJWT != "" {
		data["token_reviewer_jwt"] = s.TokenReviewerJWT
		changed = append(changed, "token_reviewer_jwt")
	}
	if len(changed) == 0 {
		return nil, nil, nil
	}
	if data["kubernetes_host"] == nil {
		return nil, nil, errors.New("there is none yet: give --kubernetes-host, too")
	}
	// Older versions of Vault do not report it.
	if has, said := existing[reviewerSet].(bool); existing != nil && s.TokenReviewerJWT == "" && (has || !said) {
		return nil, nil, fmt.Errorf("to change %s, give the token reviewer's JWT, too, with --token-reviewer-jwt-file: "+
			"Vault would forget the one that it has, and every login would fail", strings.Join(changed, ", "))
	}
	return data, changed, nil
}

// canonicalHost returns the same text for all spellings of an API server's address.
func canonicalHost(host string) string {
	u, err := url.Parse(strings.TrimSpace(host))
	if err != nil || u.Host == "" {
		return host
	}
	name, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(name, port) + strings.TrimRight(u.Path, "/")
}

// TrialLogin logs in to Vault with a token of the operator's service account, like the operator.
func (s Setup) TrialLogin(ctx context.Context, client *api.Client, jwt string) error {
	const role = config.RoleOperator
	secret, err := client.Logical().WriteWithContext(ctx, "auth/"+s.AuthMount+"/login", map[string]any{"role": role, "jwt": jwt})
	if err != nil {
		return fmt.Errorf("trial login with the role %s at auth mount %s: %w", role, s.AuthMount, err)
	}
	if secret == nil || secret.Auth == nil {
		return fmt.Errorf("trial login with the role %s at auth mount %s: Vault's answer has no token", role, s.AuthMount)
	}
	// Not every administrator may revoke it. Otherwise it ends after tokenTTL.
	_ = client.Auth().Token().RevokeAccessorWithContext(ctx, secret.Auth.Accessor)
	return nil
}
