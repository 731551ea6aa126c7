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

// earlierRun is what an earlier run has laid down for one role.
type earlierRun struct {
	// parameters of the role; nil: there is no role.
	parameters map[string]any
	// rules that the role's policies have.
	rules string
}

// earlier returns what an earlier run has laid down for a role. The previous release named some
// policies otherwise: the rules are those of the policies that the role holds. Without a role, they
// are those of every name that is the cluster's own. A policy for keys of another cluster, which
// such a name can be, counts for nothing.
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

// mustHaveSameSettings refuses to replace the mounts, the operator's account and the audience of an
// earlier run: objects that use them would lose their rights. byRole is by the role's name.
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

// texts returns the strings in what Vault reads back as a string or a list.
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

// matches returns what the first group of the pattern finds.
func matches(pattern *regexp.Regexp, rules string) []string {
	var all []string
	for _, match := range pattern.FindAllStringSubmatch(rules, -1) {
		all = append(all, match[1])
	}
	return all
}
