package vaultadmin

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// vaultState is the state of Vault before vault-setup writes anything.
type vaultState struct {
	// auth is nil if the auth method is not enabled.
	auth        *api.AuthMount
	transit, kv bool
	// configuration is what to write to the auth method.
	configuration authChange
	// policies are the rules by policy name. Those that do not exist are empty.
	policies map[string]string
	// operatorRules are those that an earlier run gave the operator.
	operatorRules string
}

// examine reads the state of Vault. It returns an error if set-up would have to change something
// that it must not change.
func (r *setupRun) examine(ctx context.Context) (*vaultState, error) {
	found := &vaultState{policies: map[string]string{}}
	if err := r.examineMounts(ctx, found); err != nil {
		return nil, err
	}
	known, byRole := false, map[string]earlierRun{}
	for _, role := range r.Roles() {
		parameters, err := r.ownRole(ctx, role)
		if err != nil {
			return nil, err
		}
		known = known || parameters != nil
		if byRole[role.Name], err = r.earlier(ctx, role, parameters); err != nil {
			return nil, err
		}
	}
	found.operatorRules = byRole[config.RoleOperator].rules
	// The name of a policy does not depend on the accessor.
	for _, policy := range r.Policies("") {
		rules, err := r.ownPolicy(ctx, policy.Name)
		if err != nil {
			return nil, err
		}
		found.policies[policy.Name] = rules
	}
	if err := r.mustHaveSameSettings(byRole); err != nil {
		return nil, err
	}
	configured, err := r.read(ctx, "auth/"+r.AuthMount+"/config")
	if err != nil {
		return nil, err
	}
	if err := r.mustTrustThisCluster(ctx, configured, known); err != nil {
		return nil, err
	}
	if found.configuration.data, found.configuration.changed, err = r.mergeAuthConfiguration(configured); err != nil {
		return nil, fmt.Errorf("configuration of auth method %s: %w", r.AuthMount, err)
	}
	return found, nil
}

func (r *setupRun) examineMounts(ctx context.Context, found *vaultState) error {
	methods, err := r.client.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return fmt.Errorf("list auth methods: %w", err)
	}
	if found.auth = methods[r.AuthMount+"/"]; found.auth != nil && found.auth.Type != "kubernetes" {
		return fmt.Errorf("auth mount %s is of type %s, not kubernetes: choose another with --auth-mount", r.AuthMount, found.auth.Type)
	}
	engines, err := r.client.Sys().ListMountsWithContext(ctx)
	if err != nil {
		return fmt.Errorf("list secrets engines: %w", err)
	}
	if mount, ok := engines[r.TransitMount+"/"]; ok {
		if mount.Type != "transit" {
			return fmt.Errorf("mount %s is of type %s, not transit: choose another with --transit-mount", r.TransitMount, mount.Type)
		}
		found.transit = true
	}
	if mount, ok := engines[r.KVMount+"/"]; ok {
		if mount.Type != "kv" || mount.Options["version"] != "2" {
			return fmt.Errorf("mount %s is not kv version 2: choose another with --kv-mount", r.KVMount)
		}
		found.kv = true
	}
	return nil
}

// ownRole returns the parameters of a role, or nil. It returns an error if vault-setup has not
// written the role for this cluster and mount: pods of another cluster may log in with it, and
// would get this cluster's rights. It compares whole names, because one cluster's id can be a
// prefix of another's.
func (r *setupRun) ownRole(ctx context.Context, role Role) (map[string]any, error) {
	path := "auth/" + r.AuthMount + "/role/" + role.Name
	data, err := r.read(ctx, path)
	if err != nil || data == nil {
		return nil, err
	}
	const remedy = "choose another auth mount with --auth-mount; if nothing uses the role any more, delete it first with `vault delete %s`"
	policies := tokenPolicies(data)
	if len(policies) == 0 {
		return nil, fmt.Errorf("role %s at %s has no policy, so vault-setup has not written it: "+remedy, role.Name, r.AuthMount, path)
	}
	for _, name := range policies {
		if !slices.Contains(role.ownPolicies, name) {
			return nil, fmt.Errorf("role %s at %s has the policy %s, which is not that of cluster %s: "+remedy, role.Name, r.AuthMount, name, r.ClusterID, path)
		}
	}
	return data, nil
}

// keyInRules matches the cluster ids in the names of keys. A name follows the last of these
// segments, because a mount path can have a segment that looks like a name.
var keyInRules = regexp.MustCompile(`path "[^"]*/(?:keys|encrypt|decrypt|rewrap|sign|verify|hmac|export|creds|roles)/sn-(?:audit-|backup-)?([-a-z0-9]+)\.`)

// otherCluster returns the id of another cluster that the rules are for, or "".
func (s Setup) otherCluster(rules string) string {
	for _, id := range matches(keyInRules, rules) {
		if id != s.ClusterID {
			return id
		}
	}
	return ""
}

// ownPolicy returns the rules of a policy. It returns an error if they are for keys of another
// cluster: the previous release's name for one cluster can be this release's name for another.
func (r *setupRun) ownPolicy(ctx context.Context, name string) (rules string, err error) {
	rules, err = r.client.Sys().GetPolicyWithContext(ctx, name)
	if err != nil {
		return "", fmt.Errorf("read policy %s: %w", name, err)
	}
	if other := r.otherCluster(rules); other != "" {
		return "", fmt.Errorf("policy %s has rules for keys of cluster %s: choose another auth mount with --auth-mount; "+
			"if nothing uses the policy any more, delete it first with `vault policy delete %s`", name, other, name)
	}
	return rules, nil
}

// read returns nil if there is nothing at the path.
func (r *setupRun) read(ctx context.Context, path string) (map[string]any, error) {
	secret, err := r.client.Logical().ReadWithContext(ctx, path)
	if err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return nil, nil
	}
	return secret.Data, nil
}
