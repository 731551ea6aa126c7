package config

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The leaves of a deployment's KV directory.
const (
	// SessionKeysLeaf holds the first SessionKeys, and is how the names of later ones begin.
	SessionKeysLeaf = "session-keys"
	// PepperLeaf holds Pepper.
	PepperLeaf = "pepper"
	// MarkerLeaf holds Marker.
	MarkerLeaf = "marker"
)

// ReplacedSessionKeysLeaf holds the SessionKeys that a Compromise makes while it moves everything to the
// given version of the master key. The operator can neither read nor overwrite an entry, so each
// replacement has a name of its own.
func ReplacedSessionKeysLeaf(version int64) string {
	return fmt.Sprintf("%s-%d", SessionKeysLeaf, version)
}

// SessionKeysVersion is the version in the name of an entry of session keys; 0 of the first.
func SessionKeysVersion(entry string) int64 {
	_, version, _ := strings.Cut(entry, SessionKeysLeaf+"-")
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

var sessionKeysLeaf = regexp.MustCompile(`^` + SessionKeysLeaf + `(-[1-9][0-9]{0,18})?$`)

// Roles on the Kubernetes auth mount, and the ends of the service-account names bound to them.
const (
	RoleAPI      = "securenotes-api"
	RoleRotation = "securenotes-rotation"
	RoleOperator = "securenotes-operator"

	// ServiceAccountAPISuffix and ServiceAccountRotationSuffix follow the SecureNotes' name.
	ServiceAccountAPISuffix      = "-securenotes-api"
	ServiceAccountRotationSuffix = "-securenotes-rotation"
)

// TransitKeyPrefix is how the name of every master key of one cluster begins. clusterID is the UID
// of the namespace kube-system, because clusters share Vaults.
func TransitKeyPrefix(clusterID string) string { return "sn-" + clusterID + "." }

// TransitKeyName names the master key of one SecureNotes object. A namespace has no dot, so the
// joined name belongs to one pair of namespace and name only.
func TransitKeyName(clusterID, namespace, name string) string {
	return TransitKeyPrefix(clusterID) + namespace + "." + name
}

// AuditKeyPrefix is how the name of every audit key of one cluster begins.
func AuditKeyPrefix(clusterID string) string { return "sn-audit-" + clusterID + "." }

// AuditKeyName names the key that signs the audit checkpoints of one SecureNotes object.
func AuditKeyName(clusterID, namespace, name string) string {
	return AuditKeyPrefix(clusterID) + namespace + "." + name
}

// DatabaseRoleName names the role of Vault's database engine that makes the logins of one SecureNotes object: the
// master key's name, because the roles are told apart by the same rule.
func DatabaseRoleName(clusterID, namespace, name string) string {
	return TransitKeyName(clusterID, namespace, name)
}

// KVRoot is the KV directory of one cluster, below the mount.
func KVRoot(clusterID string) string { return "securenotes/" + clusterID }

// KVPath is the KV directory of one SecureNotes object, below the mount.
func KVPath(clusterID, namespace, name string) string {
	return strings.Join([]string{KVRoot(clusterID), namespace, name}, "/")
}
