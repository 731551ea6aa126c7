package vaultadmin

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/securenotes/securenotes/app/config"
)

// Setup is what vault-setup lays down for one cluster.
type Setup struct {
	// ClusterID is in the names of all that belongs to one cluster; see [ValidateClusterID].
	ClusterID string
	// OperatorNamespace and OperatorServiceAccount are bound exactly.
	OperatorNamespace, OperatorServiceAccount string
	// AuthMount, TransitMount and KVMount are mount paths without slashes around them.
	AuthMount, TransitMount, KVMount string
	// Audience that service-account tokens must have.
	Audience string
	// KubernetesHost, KubernetesCA and TokenReviewerJWT, when set, are written into the auth
	// method's configuration, beside what is there.
	KubernetesHost, KubernetesCA, TokenReviewerJWT string
	// ReplaceAPIServer lets the auth mount trust another API server than the one it is configured
	// for.
	ReplaceAPIServer bool
	// ReplaceSettings lets a run replace the mounts, the operator's account and the audience of an
	// earlier one.
	ReplaceSettings bool
	// DatabaseMount is where a database secrets engine makes database logins for the notes services. Empty: nowhere.
	DatabaseMount string
	// AllowTrim lets the operator destroy versions that no longer decrypt, and AllowShred whole
	// keys and the pepper.
	AllowTrim, AllowShred bool
	// Withdraw names the rights that are taken away. Others that an earlier run granted stay.
	Withdraw Rights
}

// tokenTTL of every login, in Vault's notation: short, because a stolen token works that long.
const tokenTTL = "15m"

// Policy is one named Vault policy.
type Policy struct {
	Name, Rules string
}

// operatorPart is in the name of the operator's policy.
const operatorPart = "operator"

// policyName has the auth mount in it, because a policy's templates name the mount: a second mount
// for the same cluster must not take the first one's policies away. Two mounts, or two clusters,
// never give one name.
func (s Setup) policyName(part string) string {
	return s.policyNameWith(mountInName(s.AuthMount), part)
}

// ownPolicyNames are the name of this release, and that of the previous one, which left dashes in
// the mount as they are. At one mount, both are of one cluster only.
func (s Setup) ownPolicyNames(part string) []string {
	mount := mountInName(s.AuthMount)
	return []string{s.policyNameWith(mount, part), s.policyNameWith(strings.ReplaceAll(mount, "_-", "-"), part)}
}

func (s Setup) policyNameWith(mount, part string) string {
	return strings.Join([]string{"securenotes", s.ClusterID, mount, part}, "-")
}

func mountInName(path string) string {
	var mount strings.Builder
	for _, r := range path {
		switch {
		case r == '/':
			// A dash would make a/b and a-b one.
			r = '.'
		case r == '.', r == '_', r == '-':
			// A bare dash ends the cluster id, which may have dashes of its own.
			mount.WriteByte('_')
		case unicode.IsUpper(r):
			// Vault takes policy names in lower case, mounts as they are.
			mount.WriteByte('_')
			r = unicode.ToLower(r)
		}
		mount.WriteRune(r)
	}
	return mount.String()
}

// namespaceTemplate is filled by Vault with the namespace of whoever logged in.
func namespaceTemplate(accessor string) string {
	return "{{identity.entity.aliases." + accessor + ".metadata.service_account_namespace}}"
}

const (
	// anySessionKeys are the first session keys and every one that replaced them.
	anySessionKeys = config.SessionKeysLeaf + "*"
	// otherPeppers are those that are not under the fixed name.
	otherPeppers = config.PepperLeaf + "-*"
)

// Policies of the three roles. accessor is of the auth mount.
func (s Setup) Policies(accessor string) []Policy {
	return []Policy{
		{s.policyName("api"), s.apiRules(accessor)},
		{s.policyName("rotation"), s.rotationRules(accessor)},
		{s.policyName(operatorPart), s.operatorRules()},
	}
}

// The right to renew its own token is in each policy, because the roles leave out Vault's default
// policy, which allows more than is used.
const renewRule = `path "auth/token/renew-self" { capabilities = ["update"] }
`

func (s Setup) apiRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# The notes service: seal and unseal with the keys of its own namespace. No \"create\",\n" +
		"# with which Vault would silently make a key that is missing.\n")
	s.transitRules(&b, accessor, "encrypt", "decrypt")
	fmt.Fprintf(&b, "path \"%s/sign/%s%s.*\" { capabilities = [\"update\"] }\n",
		s.TransitMount, config.AuditKeyPrefix(s.ClusterID), namespaceTemplate(accessor))
	s.readRules(&b, accessor, anySessionKeys, config.PepperLeaf, otherPeppers)
	s.databaseRules(&b, accessor)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) rotationRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# Rotation Jobs: as the notes service, and rewrap; no session keys, no pepper.\n")
	s.transitRules(&b, accessor, "encrypt", "decrypt", "rewrap")
	s.databaseRules(&b, accessor)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) transitRules(b *strings.Builder, accessor string, operations ...string) {
	for _, operation := range operations {
		fmt.Fprintf(b, "path \"%s/%s/%s%s.*\" { capabilities = [\"update\"] }\n",
			s.TransitMount, operation, config.TransitKeyPrefix(s.ClusterID), namespaceTemplate(accessor))
	}
}

func (s Setup) readRules(b *strings.Builder, accessor string, leaves ...string) {
	for _, leaf := range leaves {
		fmt.Fprintf(b, "path \"%s/data/%s/%s/+/%s\" { capabilities = [\"read\"] }\n",
			s.KVMount, config.KVRoot(s.ClusterID), namespaceTemplate(accessor), leaf)
	}
}

// databaseRules let whoever logged in have database logins of its namespace's roles made.
func (s Setup) databaseRules(b *strings.Builder, accessor string) {
	if s.DatabaseMount == "" {
		return
	}
	fmt.Fprintf(b, "path \"%s/creds/%s%s.*\" { capabilities = [\"read\"] }\n",
		s.DatabaseMount, config.TransitKeyPrefix(s.ClusterID), namespaceTemplate(accessor))
}

// operatorRules use one rule for a key and everything below it, because Vault lets a glob stand
// only at the end of a path and prefers the longer prefix: a second rule for ".../config" could not
// be told apart. The parameters are the wall instead: import, export settings, automatic rotation
// and the like all need a parameter that is not in the list, so they are denied; so are trim and
// deletion, unless they were asked for.
func (s Setup) operatorRules() string {
	var b strings.Builder
	capabilities, trim, deletion := `["create", "read", "update"]`, "", ""
	if s.AllowTrim {
		trim = "\n    \"min_available_version\"  = []"
	}
	if s.AllowShred {
		capabilities = `["create", "read", "update", "delete"]`
		deletion = "\n    \"deletion_allowed\"       = []"
	}
	b.WriteString("# The operator: makes, rotates and retires keys of its cluster; uses and exports none.\n")
	fmt.Fprintf(&b, `path "%s/keys/%s*" {
  capabilities = %s
  allowed_parameters = {
    "type"                   = ["aes256-gcm96"]
    "derived"                = [true]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
    "min_decryption_version" = []
    "min_encryption_version" = []%s%s
  }
}
`, s.TransitMount, config.TransitKeyPrefix(s.ClusterID), capabilities, trim, deletion)
	fmt.Fprintf(&b, `path "%s/keys/%s*" {
  capabilities = %s
  allowed_parameters = {
    "type"                   = ["ed25519"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]%s
  }
}
`, s.TransitMount, config.AuditKeyPrefix(s.ClusterID), capabilities, deletion)
	s.operatorKVRules(&b)
	if s.DatabaseMount != "" {
		b.WriteString("# Database logins: revoked after a compromise, never made. Vault asks for sudo to revoke by prefix.\n")
		prefix := config.TransitKeyPrefix(s.ClusterID)
		fmt.Fprintf(&b, "path \"sys/leases/revoke-prefix/%s*\" { capabilities = [\"update\", \"sudo\"] }\n", databaseCredentialsPath(s.DatabaseMount, prefix))
		fmt.Fprintf(&b, "path \"%s/roles/%s*\" { capabilities = [\"read\"] }\n", s.DatabaseMount, prefix)
		b.WriteString("path \"sys/capabilities-self\" { capabilities = [\"update\"] }\n")
	}
	b.WriteString(renewRule)
	return b.String()
}

// operatorKVRules let no value be replaced: Vault takes a write for an update as long as there is
// metadata, and the metadata of a pepper is the administrator's alone to delete. That of session
// keys the previous release deletes after a Compromise; pods refuse session keys of another digest.
func (s Setup) operatorKVRules(b *strings.Builder) {
	root := config.KVRoot(s.ClusterID)
	rule := func(kind, leaf, capabilities string) {
		fmt.Fprintf(b, "path \"%s/%s/%s/+/+/%s\" { capabilities = [%s] }\n", s.KVMount, kind, root, leaf, capabilities)
	}
	secrets := []string{anySessionKeys, config.PepperLeaf, otherPeppers}
	b.WriteString("# Session keys and peppers: created once, never read, never overwritten.\n")
	for _, leaf := range secrets {
		rule("data", leaf, `"create"`)
	}
	rule("data", config.MarkerLeaf, `"create", "read", "update"`)
	b.WriteString("# Metadata holds versions and times, no values. While it is there, Vault takes a write for an update.\n")
	rule("metadata", anySessionKeys, `"read", "delete"`)
	rule("metadata", config.PepperLeaf, `"read"`)
	rule("metadata", otherPeppers, `"read"`)
	rule("metadata", config.MarkerLeaf, `"read", "delete"`)
	if !s.AllowShred {
		secrets = []string{anySessionKeys}
		b.WriteString("# Session keys are destroyed after they were replaced.\n")
	} else {
		b.WriteString("# Session keys are destroyed after they were replaced, all of them with deletionPolicy Delete.\n")
	}
	for _, leaf := range secrets {
		rule("destroy", leaf, `"update"`)
	}
}

// Role is one role of the Kubernetes auth method.
type Role struct {
	Name string
	// Parameters as the auth method's API takes them.
	Parameters map[string]any
	// ownPolicies are the names that its policy can have if the role is of this cluster.
	ownPolicies []string
}

// Roles bound by service-account name and audience.
func (s Setup) Roles() []Role {
	role := func(name, part, serviceAccounts, namespaces string) Role {
		return Role{Name: name, ownPolicies: s.ownPolicyNames(part), Parameters: map[string]any{
			"bound_service_account_names":      []string{serviceAccounts},
			"bound_service_account_namespaces": []string{namespaces},
			"audience":                         s.Audience,
			"alias_name_source":                "serviceaccount_uid",
			"token_policies":                   []string{s.policyName(part)},
			"token_no_default_policy":          true,
			"token_ttl":                        tokenTTL,
			"token_max_ttl":                    "24h",
		}}
	}
	return []Role{
		role(config.RoleAPI, "api", "*"+config.ServiceAccountAPISuffix, "*"),
		role(config.RoleRotation, "rotation", "*"+config.ServiceAccountRotationSuffix, "*"),
		role(config.RoleOperator, operatorPart, s.OperatorServiceAccount, s.OperatorNamespace),
	}
}
