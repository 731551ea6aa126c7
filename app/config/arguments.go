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
	// CommandDrill is a subcommand of CommandBackup.
	CommandDrill = "drill"
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
	FlagPublicKeys        = "public-keys"
	FlagIdentity          = "identity"
	FlagEscrowIdentity    = "escrow-identity"
	FlagOlder             = "older"
	FlagAcceptSHA256      = "accept-sha256"
	FlagAcceptDamaged     = "accept-damaged"
	FlagOverwrite         = "overwrite"
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

// BackupArgs returns the arguments of a backup Job.
func BackupArgs() []string { return arguments(CommandBackup, BackupFile) }

// Restoration says what a restore Job does.
type Restoration struct {
	// ID of the backup.
	ID string
	// PublicKeys reports whether PublicKeysFile exists, and FromEscrow whether
	// EscrowIdentityDirectory does.
	PublicKeys, FromEscrow bool
	// Older accepts a backup although there is a newer one, and AcceptDamaged one with values that
	// cannot be decrypted. Overwrite deletes what the database has.
	Older, AcceptDamaged, Overwrite bool
	// AcceptSHA256 is the SHA-256 of a manifest that is accepted although a Compromise ended the
	// version of the key that signed it.
	AcceptSHA256 string
}

// Args returns the arguments of a restore Job.
func (r Restoration) Args() []string {
	args := append(arguments(CommandRestore, RestoreFile), long(FlagIdentity), IdentityDirectory+"/"+IdentityFile)
	if r.FromEscrow {
		args = append(args, long(FlagEscrowIdentity), EscrowIdentityDirectory+"/"+IdentityFile)
	}
	if r.PublicKeys {
		args = append(args, long(FlagPublicKeys), ConfigDirectory+"/"+PublicKeysFile)
	}
	if r.AcceptSHA256 != "" {
		args = append(args, long(FlagAcceptSHA256), r.AcceptSHA256)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{FlagOlder, r.Older}, {FlagAcceptDamaged, r.AcceptDamaged}, {FlagOverwrite, r.Overwrite}} {
		if flag.set {
			args = append(args, long(flag.name))
		}
	}
	return append(args, r.ID)
}

// DrillArgs returns the arguments of a drill Job.
func DrillArgs() []string {
	return append([]string{CommandBackup}, arguments(CommandDrill, DrillFile)...)
}

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
