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
)

// Files in these directories.
const (
	// APIFile and RotationFile are in ConfigDirectory, and so are VaultCAFile and ClaimedFile.
	APIFile      = "api.yaml"
	RotationFile = "rotation.yaml"
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
