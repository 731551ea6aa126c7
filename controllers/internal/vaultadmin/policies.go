package vaultadmin

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/securenotes/securenotes/app/config"
)

// Setup is what vault-setup writes for one cluster.
type Setup struct {
	// ClusterID is part of the names of everything that belongs to one cluster. See
	// [ValidateClusterID].
	ClusterID string
	// OperatorNamespace and OperatorServiceAccount are the only account of the operator's role.
	OperatorNamespace, OperatorServiceAccount string
	// AuthMount, TransitMount and KVMount are mount paths without slashes around them.
	AuthMount, TransitMount, KVMount string
	// Audience that service-account tokens must have.
	Audience string
	// KubernetesHost, KubernetesCA and TokenReviewerJWT, if set, are written to the auth method's
	// configuration. Other settings stay.
	KubernetesHost, KubernetesCA, TokenReviewerJWT string
	// ReplaceAPIServer allows the auth mount to trust another API server than the configured one.
	ReplaceAPIServer bool
	// ReplaceSettings allows a run to replace the mounts, the operator's account and the audience
	// of an earlier run.
	ReplaceSettings bool
	// DatabaseMount is the database secrets engine that creates database users for the notes
	// services. Empty: none.
	DatabaseMount string
	// AllowTrim allows the operator to destroy versions that no longer decrypt, and AllowShred to
	// destroy whole keys and peppers.
	AllowTrim, AllowShred bool
	// Withdraw are the rights to withdraw. Other rights of an earlier run stay.
	Withdraw Rights
}

// tokenTTL of every login, in Vault's notation. It is short because a stolen token works that long.
const tokenTTL = "15m"

// Policy is one named Vault policy.
type Policy struct {
	Name, Rules string
}

// Parts of roles in the names of their policies.
const (
	operatorPart     = "operator"
	backupPart       = "backup"
	backupEscrowPart = "backup-escrow"
	restorePart      = "restore"
	drillPart        = "drill"
)

// policyName returns the name of a policy. It contains the auth mount, because a policy's templates
// do, and a second mount for the same cluster must not replace the policies of the first one.
// Different mounts or clusters never give the same name.
func (s Setup) policyName(part string) string {
	return s.policyNameWith(mountInName(s.AuthMount), part)
}

// ownPolicyNames returns the name of this release and that of the previous one, which kept dashes
// of the mount. At one mount, both belong to one cluster only.
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
			// With a dash, a/b and a-b would be equal.
			r = '.'
		case r == '.', r == '_', r == '-':
			// Escaped, because a dash ends the cluster id, which may have dashes.
			mount.WriteByte('_')
		case unicode.IsUpper(r):
			// Escaped, because Vault converts policy names to lower case, but not mounts.
			mount.WriteByte('_')
			r = unicode.ToLower(r)
		}
		mount.WriteRune(r)
	}
	return mount.String()
}

// namespaceTemplate returns a template that Vault fills with the namespace of the login's service
// account.
func namespaceTemplate(accessor string) string {
	return "{{identity.entity.aliases." + accessor + ".metadata.service_account_namespace}}"
}

const (
	// anySessionKeys matches all entries of session keys.
	anySessionKeys = config.SessionKeysLeaf + "*"
	// otherPeppers matches all peppers but that with the fixed name.
	otherPeppers = config.PepperLeaf + "-*"
	// anyDrillIdentity matches all identities of the drill.
	anyDrillIdentity = config.DrillPrefix + "*"
)

// Policies returns the policies of the roles. accessor is the accessor of the auth mount.
func (s Setup) Policies(accessor string) []Policy {
	return []Policy{
		{s.policyName("api"), s.apiRules(accessor)},
		{s.policyName("rotation"), s.rotationRules(accessor)},
		{s.policyName(operatorPart), s.operatorRules()},
		{s.policyName(backupPart), s.backupRules(accessor)},
		{s.policyName(backupEscrowPart), s.backupEscrowRules(accessor)},
		{s.policyName(restorePart), s.restoreRules(accessor)},
		{s.policyName(drillPart), s.drillRules(accessor)},
	}
}

// Each policy has the right to renew its own token, because the roles do not have Vault's default
// policy, which grants more than is needed.
const renewRule = `path "auth/token/renew-self" { capabilities = ["update"] }
`

func (s Setup) apiRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# The notes service: seal and unseal with the keys of its own namespace. No \"create\",\n" +
		"# with which Vault would silently make a key that is missing.\n")
	s.transitRules(&b, accessor, "encrypt", "decrypt")
	s.keyRule(&b, "sign", config.AuditKeyPrefix(s.ClusterID), accessor, "update")
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

func (s Setup) backupRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# Backup Jobs: sign backups of their own namespace, and decrypt nothing.\n")
	s.signBackupRules(&b, accessor)
	s.databaseRules(&b, accessor)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) backupEscrowRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# Backup Jobs with an escrow file: as without one, and read what the file holds, owner keys and peppers.\n")
	s.signBackupRules(&b, accessor)
	s.transitRules(&b, accessor, "decrypt")
	s.readRules(&b, accessor, config.PepperLeaf, otherPeppers)
	s.databaseRules(&b, accessor)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) signBackupRules(b *strings.Builder, accessor string) {
	s.keyRule(b, "sign", config.BackupKeyPrefix(s.ClusterID), accessor, "update")
	s.publicKeyRule(b, accessor)
	s.versionsRule(b, accessor)
}

// versionsRule grants the numbers and times of the master key's versions.
func (s Setup) versionsRule(b *strings.Builder, accessor string) {
	s.keyRule(b, "keys", config.TransitKeyPrefix(s.ClusterID), accessor, "read")
}

// publicKeyRule grants the public keys of the backup key.
func (s Setup) publicKeyRule(b *strings.Builder, accessor string) {
	s.keyRule(b, "keys", config.BackupKeyPrefix(s.ClusterID), accessor, "read")
}

func (s Setup) restoreRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# Restore Jobs: wrap and unwrap owner keys of their own namespace, and add a pepper under a new name.\n" +
		"# They sign nothing, and replace no pepper.\n")
	s.transitRules(&b, accessor, "encrypt", "decrypt")
	s.publicKeyRule(&b, accessor)
	s.readRules(&b, accessor, config.PepperLeaf)
	s.kvRule(&b, accessor, otherPeppers, `"create", "read"`)
	s.databaseRules(&b, accessor)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) drillRules(accessor string) string {
	var b strings.Builder
	b.WriteString("# Drill Jobs: open backups of their own namespace with an identity of their own, and unwrap owner keys.\n" +
		"# They change nothing, and read no pepper.\n")
	s.transitRules(&b, accessor, "decrypt")
	s.publicKeyRule(&b, accessor)
	s.versionsRule(&b, accessor)
	s.readRules(&b, accessor, anyDrillIdentity)
	b.WriteString(renewRule)
	return b.String()
}

func (s Setup) transitRules(b *strings.Builder, accessor string, operations ...string) {
	for _, operation := range operations {
		s.keyRule(b, operation, config.TransitKeyPrefix(s.ClusterID), accessor, "update")
	}
}

// keyRule grants an operation with the keys of the login's namespace whose names begin with prefix.
func (s Setup) keyRule(b *strings.Builder, operation, prefix, accessor, capability string) {
	fmt.Fprintf(b, "path \"%s/%s/%s%s.*\" { capabilities = [%q] }\n",
		s.TransitMount, operation, prefix, namespaceTemplate(accessor), capability)
}

func (s Setup) readRules(b *strings.Builder, accessor string, leaves ...string) {
	for _, leaf := range leaves {
		s.kvRule(b, accessor, leaf, `"read"`)
	}
}

// kvRule grants capabilities on an entry of the SecureNotes of the login's namespace.
func (s Setup) kvRule(b *strings.Builder, accessor, leaf, capabilities string) {
	fmt.Fprintf(b, "path \"%s/data/%s/%s/+/%s\" { capabilities = [%s] }\n",
		s.KVMount, config.KVRoot(s.ClusterID), namespaceTemplate(accessor), leaf, capabilities)
}

// databaseRules grant the database users of the roles of the login's namespace.
func (s Setup) databaseRules(b *strings.Builder, accessor string) {
	if s.DatabaseMount == "" {
		return
	}
	fmt.Fprintf(b, "path \"%s/creds/%s%s.*\" { capabilities = [\"read\"] }\n",
		s.DatabaseMount, config.TransitKeyPrefix(s.ClusterID), namespaceTemplate(accessor))
}

// operatorRules returns the operator's rules. One rule covers a key and everything below it,
// because Vault allows a glob at the end of a path only, and so a separate rule for ".../config" is
// impossible. The list of parameters is the limit instead: import, export settings, automatic
// rotation and the like need a parameter that is not in it. Trim and deletion are denied unless
// they are allowed by flags.
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
	fmt.Fprintf(&b, `path "%s/keys/%s*" {
  capabilities = %s
  allowed_parameters = {
    "type"                   = ["ed25519"]
    "exportable"             = [false]
    "allow_plaintext_backup" = [false]
    "min_encryption_version" = []%s
  }
}
`, s.TransitMount, config.BackupKeyPrefix(s.ClusterID), capabilities, deletion)
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

// operatorKVRules allow no replacement of a value. A write is an update as long as there is
// metadata, and only the administrator can delete the metadata of a pepper. The previous release
// deletes the metadata of session keys after a Compromise; pods reject session keys with another
// digest.
func (s Setup) operatorKVRules(b *strings.Builder) {
	root := config.KVRoot(s.ClusterID)
	rule := func(kind, leaf, capabilities string) {
		fmt.Fprintf(b, "path \"%s/%s/%s/+/+/%s\" { capabilities = [%s] }\n", s.KVMount, kind, root, leaf, capabilities)
	}
	secrets := []string{anySessionKeys, config.PepperLeaf, otherPeppers, anyDrillIdentity}
	b.WriteString("# Session keys, peppers and identities of the drill: created once, never read, never overwritten.\n")
	for _, leaf := range secrets {
		rule("data", leaf, `"create"`)
	}
	rule("data", config.MarkerLeaf, `"create", "read", "update"`)
	b.WriteString("# Metadata holds versions and times, no values. While it is there, Vault takes a write for an update.\n")
	rule("metadata", anySessionKeys, `"read", "delete"`)
	rule("metadata", config.PepperLeaf, `"read"`)
	rule("metadata", otherPeppers, `"read"`)
	rule("metadata", anyDrillIdentity, `"read"`)
	rule("metadata", config.MarkerLeaf, `"read", "delete"`)
	if !s.AllowShred {
		secrets = []string{anySessionKeys, anyDrillIdentity}
		b.WriteString("# Session keys and identities of the drill are destroyed after they were replaced.\n")
	} else {
		b.WriteString("# Session keys and identities of the drill are destroyed after they were replaced, all of them with deletionPolicy Delete.\n")
	}
	for _, leaf := range secrets {
		rule("destroy", leaf, `"update"`)
	}
}

// Role is one role of the Kubernetes auth method.
type Role struct {
	Name string
	// Parameters of the auth method's API.
	Parameters map[string]any
	// ownPolicies are the possible names of its policy if the role belongs to this cluster.
	ownPolicies []string
}

// Roles returns the roles, which are bound to service account names and an audience.
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
		role(config.RoleBackup, backupPart, "*"+config.ServiceAccountBackupSuffix, "*"),
		role(config.RoleBackupEscrow, backupEscrowPart, "*"+config.ServiceAccountBackupEscrowSuffix, "*"),
		role(config.RoleRestore, restorePart, "*"+config.ServiceAccountRestoreSuffix, "*"),
		role(config.RoleDrill, drillPart, "*"+config.ServiceAccountDrillSuffix, "*"),
	}
}
