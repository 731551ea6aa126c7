package config

import "strconv"

// ShardProgress is what one shard of a re-encryption Job reports, as JSON under its own key of the
// progress ConfigMap. Readers must bound and check it: whoever runs in the namespace can write it.
type ShardProgress struct {
	// Job is the Job's name, so that a late report of an older Job is not taken for a newer one's.
	Job string `json:"job"`
	// NotesDone and NotesTotal count sealed rows of this shard; the total grows when rows turn up late.
	NotesDone  int64 `json:"notesDone"`
	NotesTotal int64 `json:"notesTotal"`
	// NotesPerSecond is over the last half minute.
	NotesPerSecond float64 `json:"notesPerSecond"`
	// Conflicts is how many rows or keys were left alone because they had changed since they were read.
	Conflicts int64 `json:"conflicts,omitempty"`
}

// ShardProgressKey is the ConfigMap key of a shard.
func ShardProgressKey(shard int) string { return "shard-" + strconv.Itoa(shard) }

// Termination is what a subcommand leaves in its container's termination message when it ends.
type Termination struct {
	// Reason is a CamelCase word for a condition.
	Reason string `json:"reason"`
	// Message is a sentence for a person; it holds names, never values.
	Message string `json:"message"`
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
	ReasonKeyMismatch                  = "KeyMismatch"
	ReasonSecretMismatch               = "SecretMismatch"
	ReasonMigrationFailed              = "MigrationFailed"
	ReasonVaultUnreachable             = "VaultUnreachable"
	ReasonVaultSealed                  = "VaultSealed"
	ReasonVaultDenied                  = "VaultDenied"
	ReasonSuperseded                   = "Superseded"
	ReasonStaleRows                    = "StaleRows"
	ReasonCertificateInvalid           = "CertificateInvalid"
	ReasonFailed                       = "Failed"
)

// Exit codes of the subcommands. Those that end a Job for good are none that the Go runtime or a shell
// uses: a program that panics exits with 2, and so does one that is process 1 of its container and gets
// SIGTERM before it listens for it, as in a pod that is drained while it starts.
const (
	// ExitRetryable: trying again may help.
	ExitRetryable = 1
	// ExitConfiguration: trying again does not help until the configuration is changed; EX_CONFIG of sysexits.h.
	ExitConfiguration = 78
	// ExitSuperseded: a newer rotation has taken over; this Job must not be tried again.
	ExitSuperseded = 79
)
