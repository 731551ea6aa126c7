package config

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The leaves of a deployment's KV directory. Values that must stay secret are in entries whose
// names are recorded before they exist: anyone who may create entries could otherwise create them
// in advance.
const (
	// SessionKeysLeaf is how the names of entries with SessionKeys begin. Earlier releases used it as
	// the name of the first, and added the version alone for later ones.
	SessionKeysLeaf = "session-keys"
	// PepperLeaf holds Pepper, unless the deployment's is in an entry of [NewPepperEntry].
	PepperLeaf = "pepper"
	// MarkerLeaf holds Marker.
	MarkerLeaf = "marker"
)

// randomDigits end the name of an entry of session keys: 12 of them, so that a version of up to
// seven digits leaves a number of 19.
const randomDigits = 1_000_000_000_000

// NewSessionKeysEntry returns a name, which nobody can predict, for session keys that are created
// while the master key has the given version.
func NewSessionKeysEntry(version int64) string {
	var random [8]byte
	rand.Read(random[:])
	return fmt.Sprintf("%s-%d%012d", SessionKeysLeaf, version, binary.BigEndian.Uint64(random[:])%randomDigits)
}

// NewPepperEntry returns a name for a pepper that nobody can predict.
func NewPepperEntry() string { return PepperLeaf + "-" + strings.ToLower(rand.Text()[:16]) }

// SessionKeysVersion returns the version in the name of an entry of session keys; 0 where it has
// none.
func SessionKeysVersion(entry string) int64 {
	_, number, _ := strings.Cut(entry, SessionKeysLeaf+"-")
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return 0
	}
	if n >= randomDigits {
		n /= randomDigits
	}
	return int64(n) //nolint:gosec // below 10^12
}

var (
	sessionKeysEntry = regexp.MustCompile(`^` + SessionKeysLeaf + `(-[1-9][0-9]{0,18})?$`)
	pepperEntry      = regexp.MustCompile(`^` + PepperLeaf + `(-[a-z2-7]{16})?$`)
	digest           = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// IsSessionKeysEntry reports whether entry is a name that session keys can have, of this release or
// an earlier one.
func IsSessionKeysEntry(entry string) bool { return sessionKeysEntry.MatchString(entry) }

// IsPepperEntry reports whether entry is a name that a pepper can have.
func IsPepperEntry(entry string) bool { return pepperEntry.MatchString(entry) }

// IsDigest reports whether text is a SHA-256 as [SessionKeys.Digest] and [Pepper.Digest] write it.
func IsDigest(text string) bool { return digest.MatchString(text) }

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
