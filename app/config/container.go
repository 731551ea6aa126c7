package config

import (
	"strconv"
	"time"
)

// The image's program and the user that it runs as. The Dockerfile and hack/release set both, too.
const (
	Executable = "/usr/local/bin/securenotes"
	UserID     = 65532
)

// Ports of the API's pods: HTTPS for clients, plain HTTP for probes and metrics.
const (
	PortHTTPS   = 8443
	PortMetrics = 9090
)

// Paths that PortMetrics answers.
const (
	PathLive    = "/livez"
	PathReady   = "/readyz"
	PathMetrics = "/metrics"
)

// Directories that the operator mounts into the containers of the service.
const (
	ConfigDirectory     = "/etc/securenotes/config"
	TLSDirectory        = "/etc/securenotes/tls"
	DatabaseDirectory   = "/etc/securenotes/database"
	DatabaseCADirectory = "/etc/securenotes/database-ca"
	RedisDirectory      = "/etc/securenotes/redis"
	RedisCADirectory    = "/etc/securenotes/redis-ca"
	DataDirectory       = "/var/lib/securenotes"
	VaultTokenDirectory = "/var/run/secrets/vault" //nolint:gosec // a path, not a token
	// BackupsDirectory is where the volume claim of a destination is mounted. Backups are in the
	// directory BackupsSubdirectory of it.
	BackupsDirectory    = "/backups"
	BackupsSubdirectory = "securenotes-backups"
	// BackupCredentialsDirectory has the credentials of an object store, and BackupCADirectory the
	// certificates of its authorities.
	BackupCredentialsDirectory = "/etc/securenotes/backup-credentials"
	BackupCADirectory          = "/etc/securenotes/backup-ca"
	// IdentityDirectory and EscrowIdentityDirectory have the age identities of a restore.
	IdentityDirectory       = "/etc/securenotes/identity"
	EscrowIdentityDirectory = "/etc/securenotes/escrow-identity"
	// DrillDirectory is where the volume that a drill restores into is mounted.
	DrillDirectory = "/var/lib/securenotes-drill"
)

// Files in these directories.
const (
	// APIFile, RotationFile, BackupFile, RestoreFile and DrillFile are in ConfigDirectory, and so
	// are VaultCAFile, ClaimedFile and PublicKeysFile.
	APIFile      = "api.yaml"
	RotationFile = "rotation.yaml"
	BackupFile   = "backup.yaml"
	RestoreFile  = "restore.yaml"
	DrillFile    = "drill.yaml"
	VaultCAFile  = "vault-ca.crt"
	// ClaimedFile exists when the database has been in use. It is a file of its own because the
	// operator adds it to running pods without a restart.
	ClaimedFile = "claimed"
	// CertFile and KeyFile have the names that Kubernetes gives the keys of a TLS Secret.
	CertFile = "tls.crt"
	KeyFile  = "tls.key"
	// URIFile and CAFile hold the address of a database or of Redis, and the CA of its certificate.
	URIFile = "uri"
	CAFile  = "ca.crt"
	// AccessKeyIDFile, SecretAccessKeyFile and SessionTokenFile hold the credentials of an object
	// store. They are also the keys of the Secret. The last one is optional.
	AccessKeyIDFile     = "access-key-id"
	SecretAccessKeyFile = "secret-access-key"
	SessionTokenFile    = "session-token"
	// PublicKeysFile holds the public keys to verify a backup with, as status.backupKeys has them.
	PublicKeysFile = "public-keys.json"
	// IdentityFile holds an age identity.
	IdentityFile = "identity.txt"
	// DatabaseFile is the embedded database.
	DatabaseFile = "notes.db"
	// TokenFile is the projected service-account token for Vault.
	TokenFile = "token"
)

// TerminationLog is where Kubernetes reads why a container ended. Kubernetes creates the file.
const TerminationLog = "/dev/termination-log"

// How a pod of the API stops: it answers for DrainTime, because load balancers take a while to
// notice, and lets requests finish for at most ShutdownTimeout. It has GracePeriod for all of it,
// with the last signature of the audit log. No preStop hook has to wait.
const (
	DrainTime       = 5 * time.Second
	ShutdownTimeout = 20 * time.Second
	GracePeriod     = 45 * time.Second
)

// listenOn returns the address for a port on all interfaces.
func listenOn(port int) string { return ":" + strconv.Itoa(port) }
