package config

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// The entries of a deployment's KV directory. The names of secret entries are random, and are
// recorded before the entries exist. Otherwise anyone who may create entries could create them in
// advance.
const (
	// SessionKeysLeaf is the prefix of the names of entries with SessionKeys. Earlier releases used
	// it alone for the first entry, and with the version only for later ones.
	SessionKeysLeaf = "session-keys"
	// PepperLeaf holds Pepper, unless [NewPepperEntry] named the entry.
	PepperLeaf = "pepper"
	// MarkerLeaf holds Marker.
	MarkerLeaf = "marker"
	// DrillPrefix begins the names of entries with a DrillIdentity.
	DrillPrefix = "drill-"
)

// randomDigits bounds the 12 random digits at the end of a session keys entry. With a version of up
// to seven digits before them, the number has at most 19 digits.
const randomDigits = 1_000_000_000_000

// NewSessionKeysEntry returns an unpredictable name for session keys that are created while the
// master key has the given version.
func NewSessionKeysEntry(version int64) string {
	var random [8]byte
	rand.Read(random[:])
	return fmt.Sprintf("%s-%d%012d", SessionKeysLeaf, version, binary.BigEndian.Uint64(random[:])%randomDigits)
}

// NewPepperEntry returns an unpredictable name for a pepper.
func NewPepperEntry() string { return PepperLeaf + "-" + randomName() }

// NewDrillEntry returns an unpredictable name for an identity of the drill.
func NewDrillEntry() string { return DrillPrefix + randomName() }

// randomName returns 16 of the characters a to z and 2 to 7.
func randomName() string { return strings.ToLower(rand.Text()[:16]) }

// SessionKeysVersion returns the version in the name of a session keys entry, or 0 if it has none.
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
	drillEntry       = regexp.MustCompile(`^` + DrillPrefix + `[a-z2-7]{16}$`)
	digest           = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// IsSessionKeysEntry reports whether entry is a name that session keys can have, of this release or
// an earlier one.
func IsSessionKeysEntry(entry string) bool { return sessionKeysEntry.MatchString(entry) }

// IsPepperEntry reports whether entry is a name that a pepper can have.
func IsPepperEntry(entry string) bool { return pepperEntry.MatchString(entry) }

// IsDrillEntry reports whether entry is a name of [NewDrillEntry].
func IsDrillEntry(entry string) bool { return drillEntry.MatchString(entry) }

// IsDigest reports whether text is a SHA-256 as [SessionKeys.Digest] and [Pepper.Digest] write it.
func IsDigest(text string) bool { return digest.MatchString(text) }

// Roles on the Kubernetes auth mount, and the suffixes of the service account names that are bound
// to them.
const (
	RoleAPI      = "securenotes-api"
	RoleRotation = "securenotes-rotation"
	RoleOperator = "securenotes-operator"
	// RoleBackup signs backups. RoleBackupEscrow can also unwrap owner keys and read peppers, for
	// the escrow file. RoleRestore is for a restore. RoleDrill can unwrap owner keys and read the
	// drill's identities, and change nothing.
	RoleBackup       = "securenotes-backup"
	RoleBackupEscrow = "securenotes-backup-escrow"
	RoleRestore      = "securenotes-restore"
	RoleDrill        = "securenotes-drill"

	// The suffixes follow the SecureNotes' name.
	ServiceAccountAPISuffix          = "-securenotes-api"
	ServiceAccountRotationSuffix     = "-securenotes-rotation"
	ServiceAccountBackupSuffix       = "-securenotes-backup"
	ServiceAccountBackupEscrowSuffix = "-securenotes-backup-escrow"
	ServiceAccountRestoreSuffix      = "-securenotes-restore"
	ServiceAccountDrillSuffix        = "-securenotes-drill"
)

// TransitKeyPrefix returns the prefix of the names of one cluster's master keys. Clusters share
// Vaults; clusterID is the operator's cluster id, by default the UID of the namespace kube-system.
func TransitKeyPrefix(clusterID string) string { return "sn-" + clusterID + "." }

// TransitKeyName returns the name of a SecureNotes object's master key. A namespace has no dot, so
// no two pairs of namespace and name give the same key name.
func TransitKeyName(clusterID, namespace, name string) string {
	return TransitKeyPrefix(clusterID) + namespace + "." + name
}

// AuditKeyPrefix returns the prefix of the names of one cluster's audit keys.
func AuditKeyPrefix(clusterID string) string { return "sn-audit-" + clusterID + "." }

// AuditKeyName returns the name of the key that signs the audit checkpoints of one SecureNotes
// object.
func AuditKeyName(clusterID, namespace, name string) string {
	return AuditKeyPrefix(clusterID) + namespace + "." + name
}

// BackupKeyPrefix returns the prefix of the names of one cluster's backup keys.
func BackupKeyPrefix(clusterID string) string { return "sn-backup-" + clusterID + "." }

// BackupKeyName returns the name of the key that signs the backups of one SecureNotes object.
func BackupKeyName(clusterID, namespace, name string) string {
	return BackupKeyPrefix(clusterID) + namespace + "." + name
}

// DatabaseRoleName returns the name of the database engine's role that creates the database users
// of one SecureNotes object. It is the master key's name, because the same rule keeps roles apart.
func DatabaseRoleName(clusterID, namespace, name string) string {
	return TransitKeyName(clusterID, namespace, name)
}

// KVRoot returns the KV directory of one cluster, below the mount.
func KVRoot(clusterID string) string { return "securenotes/" + clusterID }

// KVPath returns the KV directory of one SecureNotes object, below the mount.
func KVPath(clusterID, namespace, name string) string {
	return strings.Join([]string{KVRoot(clusterID), namespace, name}, "/")
}
