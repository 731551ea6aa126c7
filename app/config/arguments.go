package config

import (
	"fmt"
	"strconv"
	"time"
)

// Subcommands of securenotes that the operator runs.
const (
	CommandServe     = "serve"
	CommandMigrate   = "migrate"
	CommandReencrypt = "reencrypt"
	CommandVerify    = "verify"
	CommandBackup    = "backup"
	CommandRestore   = "restore"
)

// Flags of these subcommands.
const (
	FlagConfig            = "config"
	FlagSessionKeys       = "session-keys"
	FlagSessionKeysDigest = "session-keys-digest"
	FlagToVersion         = "to-version"
	FlagStrategy          = "strategy"
	FlagShard             = "shard"
	FlagShards            = "shards"
	FlagProgressConfigMap = "progress-configmap"
	FlagJob               = "job"
	FlagUrgent            = "urgent"
	FlagMaxNotesPerSecond = "max-notes-per-second"
	FlagEndSessions       = "end-sessions"
)

// ShardIndex is the value of FlagShard in an Indexed Job. The kubelet replaces it by the pod's
// index.
const ShardIndex = "$(JOB_COMPLETION_INDEX)"

// Rotation says what a rotation's Jobs work towards.
type Rotation struct {
	// ToVersion of the master key.
	ToVersion int64
	Strategy  string
	// Urgent work does not wait for users.
	Urgent bool
}

// Reencryption says what a re-encryption Job does. All of its pods get the same arguments.
type Reencryption struct {
	Rotation
	Shards int32
	// ProgressConfigMap is NAMESPACE/NAME, and Job the name of the Job that reports there.
	ProgressConfigMap, Job string
	// MaxNotesPerSecond bounds all shards together. 0: no limit. It has no effect on urgent work.
	MaxNotesPerSecond int32
	// EndSessions, unless it is zero, ends every session that began then or before.
	EndSessions time.Time
}

// ServeArgs returns the arguments of an API container. Empty sessionKeys and digest: those of the
// configuration file.
func ServeArgs(sessionKeys, digest string) []string {
	args := arguments(CommandServe, APIFile)
	if sessionKeys != "" {
		args = append(args, long(FlagSessionKeys), sessionKeys)
	}
	if digest != "" {
		args = append(args, long(FlagSessionKeysDigest), digest)
	}
	return args
}

// MigrateArgs returns the arguments of the init container that prepares the database.
func MigrateArgs() []string { return arguments(CommandMigrate, APIFile) }

// Args returns the arguments of a re-encryption Job. A change of their order or form makes Jobs
// that run during an upgrade of the operator differ from those that the operator expects.
func (r Reencryption) Args() []string {
	args := append(r.arguments(CommandReencrypt),
		long(FlagShard)+"="+ShardIndex,
		fmt.Sprintf("%s=%d", long(FlagShards), r.Shards),
		long(FlagProgressConfigMap), r.ProgressConfigMap,
		long(FlagJob), r.Job,
	)
	if r.Urgent {
		args = append(args, long(FlagUrgent))
	} else if r.MaxNotesPerSecond > 0 {
		args = append(args, fmt.Sprintf("%s=%d", long(FlagMaxNotesPerSecond), r.MaxNotesPerSecond))
	}
	if !r.EndSessions.IsZero() {
		args = append(args, long(FlagEndSessions), r.EndSessions.UTC().Format(time.RFC3339))
	}
	return args
}

// VerifyArgs returns the arguments of a verification Job.
func (r Rotation) VerifyArgs() []string {
	args := r.arguments(CommandVerify)
	if r.Urgent {
		args = append(args, long(FlagUrgent))
	}
	return args
}

func (r Rotation) arguments(command string) []string {
	return append(arguments(command, RotationFile),
		long(FlagToVersion), strconv.FormatInt(r.ToVersion, 10), long(FlagStrategy), r.Strategy)
}

func arguments(command, file string) []string {
	return []string{command, long(FlagConfig), ConfigDirectory + "/" + file}
}

func long(flag string) string { return "--" + flag }
