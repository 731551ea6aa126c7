package operand

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Environment is what a SecureNotes gets from the operator's configuration, from Vault and from the
// cluster.
type Environment struct {
	// Image and PullPolicy of the service and its Jobs.
	Image      string
	PullPolicy corev1.PullPolicy
	// ClusterID is in the names of keys and KV paths: the operator's clusterID, or the UID of the
	// namespace kube-system.
	ClusterID string
	// ClusterUID is the UID of the namespace kube-system. It is unique to the cluster.
	ClusterUID string
	// Connection to Vault.
	Connection vaultadmin.Connection
	// DeploymentID that keys and notes are bound to.
	DeploymentID string
	// SessionKeys is the entry in Vault with the session keys in use, and SessionKeysDigest their
	// SHA-256. Empty: those of an earlier release.
	SessionKeys, SessionKeysDigest string
	// Pepper is the entry in Vault with the pepper, and PepperDigest its SHA-256. Empty: that of an
	// earlier release.
	Pepper, PepperDigest string
	// CertificateSecret is the Secret that cert-manager writes.
	CertificateSecret string
	// RefusedHostnames are those that the certificate may not have. See [RefuseHostname].
	RefusedHostnames []string
	// CertificateNames are the names with at most one dot that the existing Certificate has. The
	// Certificate keeps them, although a new one would not get all of them.
	CertificateNames []string
	// DatabaseClaimed is set when the database has been in use. Pods then create no other one.
	DatabaseClaimed bool
}

// ConfigMap returns the configuration of the API and of the rotation Jobs. Error: the configuration
// is invalid; it names the field.
func ConfigMap(sn *v1alpha1.SecureNotes, env Environment) (*corev1.ConfigMap, error) {
	api, err := config.Marshal(apiConfig(sn, env))
	if err != nil {
		return nil, fmt.Errorf("configuration of the API: %w", err)
	}
	rotation, err := config.Marshal(rotationConfig(sn, env))
	if err != nil {
		return nil, fmt.Errorf("configuration of rotations: %w", err)
	}
	data := map[string]string{config.APIFile: string(api), config.RotationFile: string(rotation)}
	if env.Connection.CABundle != "" {
		data[config.VaultCAFile] = env.Connection.CABundle
	}
	if env.DatabaseClaimed {
		data[config.ClaimedFile] = env.DeploymentID
	}
	return &corev1.ConfigMap{ObjectMeta: meta(sn, ConfigMapName(sn.Name), ""), Data: data}, nil
}

// DatabaseClaimed reports whether a ConfigMap tells the pods that the database has been in use.
func DatabaseClaimed(cm *corev1.ConfigMap) bool {
	_, claimed := cm.Data[config.ClaimedFile]
	return claimed
}

// ConfigHash returns a hash of the files that the API's pods read, so that nothing else restarts
// them. It leaves out config.ClaimedFile, which they read only at the start.
func ConfigHash(cm *corev1.ConfigMap) string {
	h := sha256.New()
	for _, key := range []string{config.APIFile, config.VaultCAFile} {
		// The length separates one file from the next.
		fmt.Fprintf(h, "%d:%s", len(cm.Data[key]), cm.Data[key])
	}
	return hex.EncodeToString(h.Sum(nil))[:32]
}

func apiConfig(sn *v1alpha1.SecureNotes, env Environment) *config.Config {
	c := baseConfig(sn, env, config.RoleAPI)
	c.RateLimits, c.TrustedProxies = resolveRateLimits(sn), sn.Spec.TrustedProxies
	c.Quotas = resolveQuotas(sn)
	if sn.Spec.CORS != nil {
		c.CORS.AllowedOrigins = sn.Spec.CORS.AllowedOrigins
	}
	c.Keys.Vault.SessionKeys, c.Keys.Vault.SessionKeysDigest = env.SessionKeys, env.SessionKeysDigest
	c.Keys.Vault.Pepper, c.Keys.Vault.PepperDigest = env.Pepper, env.PepperDigest
	c.Keys.Vault.AuditKey = config.AuditKeyName(env.ClusterID, sn.Namespace, sn.Name)
	c.TLS = &config.TLS{CertFile: config.TLSDirectory + "/" + config.CertFile, KeyFile: config.TLSDirectory + "/" + config.KeyFile}
	return c
}

func rotationConfig(sn *v1alpha1.SecureNotes, env Environment) *config.Config {
	return baseConfig(sn, env, config.RoleRotation)
}

func baseConfig(sn *v1alpha1.SecureNotes, env Environment, role string) *config.Config {
	c := &config.Config{
		Deployment: config.Deployment{ID: env.DeploymentID, Namespace: sn.Namespace, Name: sn.Name},
		Auth:       resolveAuth(sn),
		Keys: config.Keys{Vault: &config.Vault{
			Address:      env.Connection.Address,
			Namespace:    env.Connection.Namespace,
			AuthMount:    env.Connection.AuthMount,
			Role:         role,
			TokenFile:    config.VaultTokenDirectory + "/" + config.TokenFile,
			TransitMount: env.Connection.TransitMount,
			TransitKey:   config.TransitKeyName(env.ClusterID, sn.Namespace, sn.Name),
			KVMount:      env.Connection.KVMount,
			KVPath:       config.KVPath(env.ClusterID, sn.Namespace, sn.Name),
		}},
	}
	if env.Connection.CABundle != "" {
		c.Keys.Vault.CAFile = config.ConfigDirectory + "/" + config.VaultCAFile
	}
	if IsEmbedded(sn) {
		c.Database.SQLite = &config.SQLite{Path: config.DataDirectory + "/" + config.DatabaseFile}
		return c
	}
	c.Database.Postgres = &config.Postgres{URIFile: config.DatabaseDirectory + "/" + config.URIFile}
	if sn.Spec.Database.Postgres.CASecretRef != nil {
		c.Database.Postgres.CAFile = config.DatabaseCADirectory + "/" + config.CAFile
	}
	if UsesVaultCredentials(sn) {
		c.Database.Postgres.VaultCredentials = &config.VaultCredentials{
			Mount: env.Connection.DatabaseMount, Role: config.DatabaseRoleName(env.ClusterID, sn.Namespace, sn.Name),
		}
	}
	return c
}
