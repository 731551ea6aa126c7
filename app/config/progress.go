package config

import "strconv"

// ShardProgress is what one shard of a re-encryption Job reports, as JSON under its own key of the
// progress ConfigMap. Readers must check it: anyone with rights in the namespace can write it.
type ShardProgress struct {
	// Job is the Job's name. It tells a late report of an older Job from that of the current one.
	Job string `json:"job"`
	// NotesDone and NotesTotal count encrypted rows of this shard. The total grows while users add
	// rows.
	NotesDone  int64 `json:"notesDone"`
	NotesTotal int64 `json:"notesTotal"`
	// NotesPerSecond is the average of the last 30 seconds.
	NotesPerSecond float64 `json:"notesPerSecond"`
	// Conflicts counts the rows and keys that were skipped because they had changed since they were
	// read.
	Conflicts int64 `json:"conflicts,omitempty"`
}

// ShardProgressKey returns the ConfigMap key of a shard.
func ShardProgressKey(shard int) string { return "shard-" + strconv.Itoa(shard) }

// Termination is the JSON of a subcommand's termination message.
type Termination struct {
	// Reason is a CamelCase word for a condition.
	Reason string `json:"reason"`
	// Message is a sentence for people. It names things, and never quotes secrets.
	Message string `json:"message"`
	// Backup is set after a complete backup.
	Backup *BackupReport `json:"backup,omitempty"`
	// Restore is set after a complete restore.
	Restore *RestoreReport `json:"restore,omitempty"`
	// Drill is set after a drill of a backup that is intact.
	Drill *DrillReport `json:"drill,omitempty"`
}

// The reasons of a Termination.
const (
	ReasonComplete                     = "Complete"
	ReasonConfigInvalid                = "ConfigInvalid"
	ReasonDatabaseSecretMissing        = "DatabaseSecretMissing"
	ReasonDatabaseUnreachable          = "DatabaseUnreachable"
	ReasonDatabaseURIInvalid           = "DatabaseURIInvalid"
	ReasonDatabaseAuthenticationFailed = "DatabaseAuthenticationFailed"
	ReasonDatabasePermissionDenied     = "DatabasePermissionDenied"
	ReasonDatabaseRefused              = "DatabaseRefused"
	ReasonDatabaseLoginMissing         = "DatabaseLoginMissing"
	ReasonDatabaseMismatch             = "DatabaseMismatch"
	ReasonDatabaseLost                 = "DatabaseLost"
	ReasonDatabaseRestoring            = "DatabaseRestoring"
	ReasonDatabaseRestored             = "DatabaseRestored"
	ReasonKeyMismatch                  = "KeyMismatch"
	ReasonSecretMismatch               = "SecretMismatch"
	ReasonMigrationFailed              = "MigrationFailed"
	ReasonVaultUnreachable             = "VaultUnreachable"
	ReasonVaultSealed                  = "VaultSealed"
	ReasonVaultDenied                  = "VaultDenied"
	ReasonSuperseded                   = "Superseded"
	ReasonStaleRows                    = "StaleRows"
	ReasonBackupRefused                = "BackupRefused"
	ReasonDrillIdentityMissing         = "DrillIdentityMissing"
	ReasonBackupDeferred               = "BackupDeferred"
	ReasonDatabaseNotEmpty             = "DatabaseNotEmpty"
	ReasonDatabaseInUse                = "DatabaseInUse"
	ReasonDestinationDenied            = "DestinationDenied"
	ReasonDestinationFull              = "DestinationFull"
	ReasonDestinationUnavailable       = "DestinationUnavailable"
	ReasonCertificateInvalid           = "CertificateInvalid"
	ReasonFailed                       = "Failed"
)

// Exit codes of the subcommands. Those that end a Job permanently are none that the Go runtime or a
// shell uses. A Go program exits with 2 when it panics, and also when it is process 1 of a
// container and gets SIGTERM before it has a handler, as in a pod that is drained while it starts.
const (
	// ExitRetryable means that a retry may succeed.
	ExitRetryable = 1
	// ExitConfiguration means that a retry fails until the configuration changes. It is EX_CONFIG
	// of sysexits.h.
	ExitConfiguration = 78
	// ExitSuperseded means that a newer rotation has taken over, and that the Job must not be
	// retried.
	ExitSuperseded = 79
)
