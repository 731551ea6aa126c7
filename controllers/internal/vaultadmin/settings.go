package vaultadmin

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/app/config"
)

var (
	transitMountInRules = regexp.MustCompile(`path "([^"]+)/(?:keys|encrypt|decrypt|rewrap|sign)/sn-`)
	kvMountInRules      = regexp.MustCompile(`path "([^"]+)/(?:data|metadata|destroy)/securenotes/`)
)

// earlierRun is what an earlier run has written for one role.
type earlierRun struct {
	// parameters of the role. nil: there is no role.
	parameters map[string]any
	// rules of the role's policies.
	rules string
}

// earlier returns what an earlier run has written for a role. The previous release had other names
// for some policies, so the rules follow the role's policies. Without a role, they follow those
// of all names that the cluster's policies can have, except for policies for keys of another
// cluster.
func (r *setupRun) earlier(ctx context.Context, role Role, parameters map[string]any) (earlierRun, error) {
	names := role.ownPolicies
	if parameters != nil {
		names = tokenPolicies(parameters)
	}
	found := earlierRun{parameters: parameters}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		rules, err := r.client.Sys().GetPolicyWithContext(ctx, name)
		if err != nil {
			return earlierRun{}, fmt.Errorf("read policy %s: %w", name, err)
		}
		if r.otherCluster(rules) == "" {
			found.rules += rules + "\n"
		}
	}
	return found, nil
}

// mustHaveSameSettings returns an error if the run would replace the mounts, the operator's account
// or the audience of an earlier run. Objects that use them would lose their rights. byRole has the
// role's name as key.
func (r *setupRun) mustHaveSameSettings(byRole map[string]earlierRun) error {
	var differ []string
	compare := func(flag, want string, got ...string) {
		for _, got := range got {
			if text := fmt.Sprintf("--%s was %s, and is now %s", flag, got, want); got != want && got != "" && !slices.Contains(differ, text) {
				differ = append(differ, text)
			}
		}
	}
	for _, role := range r.Roles() {
		run := byRole[role.Name]
		compare("transit-mount", r.TransitMount, matches(transitMountInRules, run.rules)...)
		compare("kv-mount", r.KVMount, matches(kvMountInRules, run.rules)...)
		compare("audience", r.Audience, texts(run.parameters["audience"])...)
	}
	operator := byRole[config.RoleOperator]
	compare("operator-namespace", r.OperatorNamespace, texts(operator.parameters["bound_service_account_namespaces"])...)
	compare("operator-service-account", r.OperatorServiceAccount, texts(operator.parameters["bound_service_account_names"])...)
	if _, mount := grantedBy(operator.rules); r.DatabaseMount != "" {
		compare("database-mount", r.DatabaseMount, mount)
	}
	if len(differ) == 0 {
		return nil
	}
	all := strings.Join(differ, "; ")
	if r.ReplaceSettings {
		r.say("Warning: settings of an earlier run for cluster %s at auth mount %s are replaced: %s", r.ClusterID, r.AuthMount, all)
		return nil
	}
	return fmt.Errorf("an earlier run for cluster %s at auth mount %s had other settings (%s), and SecureNotes that use them would lose their rights: "+
		"repeat the flags of that run, or choose another auth mount with --auth-mount for a second connection; "+
		"if the settings have changed for good, add --replace-settings", r.ClusterID, r.AuthMount, all)
}

func tokenPolicies(parameters map[string]any) []string { return texts(parameters["token_policies"]) }

// texts returns the strings of a value that Vault returns as a string or a list.
func texts(value any) []string {
	switch value := value.(type) {
	case nil:
		return nil
	case []any:
		all := make([]string, len(value))
		for i, one := range value {
			all[i] = fmt.Sprint(one)
		}
		return all
	default:
		return []string{fmt.Sprint(value)}
	}
}

// matches returns all matches of the pattern's first group.
func matches(pattern *regexp.Regexp, rules string) []string {
	var all []string
	for _, match := range pattern.FindAllStringSubmatch(rules, -1) {
		all = append(all, match[1])
	}
	return all
}
