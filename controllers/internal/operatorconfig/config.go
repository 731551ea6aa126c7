// Package operatorconfig reads the operator's configuration file. It holds what the administrator
// of the cluster decides; tenants decide the rest in their objects. Start reading at [Config].
package operatorconfig

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// APIVersion and Kind identify the file.
const (
	APIVersion = "config.securenotes.dev/v1alpha1"
	Kind       = "OperatorConfig"
)

// The log levels.
const (
	LogInfo  = "info"
	LogDebug = "debug"
)

// Config is the configuration file.
type Config struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`

	// ClusterID is part of the names of everything that the operator has in Vault. The default is
	// the UID of the namespace kube-system.
	ClusterID string `json:"clusterID,omitempty"`
	// OperandImage is the image of the notes service and its Jobs, with a tag or a digest.
	OperandImage string `json:"operandImage"`
	// OperandImagePullPolicy is Always, IfNotPresent or Never. The default is IfNotPresent.
	OperandImagePullPolicy string `json:"operandImagePullPolicy,omitempty"`
	// VaultConnections holds the connections by the name that objects refer to.
	VaultConnections map[string]VaultConnection `json:"vaultConnections"`
	// VaultResyncInterval is how often the keys of a settled object are checked, 1m to 24h. The
	// default is 10m.
	VaultResyncInterval config.Duration `json:"vaultResyncInterval,omitempty"`
	// LogLevel is info, for changes, or debug, which adds each requeue with its reason. The default
	// is info.
	LogLevel string `json:"logLevel,omitempty"`
	// WatchNamespaces are the namespaces whose objects the operator reconciles. The default is all.
	WatchNamespaces []string `json:"watchNamespaces,omitempty"`

	// MetricsBindAddress and HealthProbeBindAddress are host:port. The defaults are :8080 and
	// :8081.
	MetricsBindAddress     string `json:"metricsBindAddress,omitempty"`
	HealthProbeBindAddress string `json:"healthProbeBindAddress,omitempty"`
	// LeaderElection permits several replicas, of which one is active. The default is true.
	LeaderElection *bool `json:"leaderElection,omitempty"`
	// OperatorNamespace and OperatorServiceAccount belong to the operator's own pod. Conditions
	// show them in the vault-setup command.
	OperatorNamespace      string `json:"operatorNamespace"`
	OperatorServiceAccount string `json:"operatorServiceAccount"`
}

// VaultConnection describes how to reach one Vault.
type VaultConnection struct {
	// Address is an https URL.
	Address string `json:"address"`
	// CABundle holds PEM certificates. The default is the system's certificate authorities.
	CABundle string `json:"caBundle,omitempty"`
	// Namespace is a Vault Enterprise namespace.
	Namespace string `json:"namespace,omitempty"`
	// AuthMount, TransitMount, KVMount and DatabaseMount default to kubernetes, transit, secret and
	// database.
	AuthMount     string `json:"authMount,omitempty"`
	TransitMount  string `json:"transitMount,omitempty"`
	KVMount       string `json:"kvMount,omitempty"`
	DatabaseMount string `json:"databaseMount,omitempty"`
	// Audience is the audience of service-account tokens. The default is vault.
	Audience string `json:"audience,omitempty"`
	// TokenFile holds the operator's own token. The default is
	// /var/run/secrets/vault/<connection>/token.
	TokenFile string `json:"tokenFile,omitempty"`
}

// Load reads and validates the file. The error names every invalid field.
func Load(path string) (*Config, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("operator configuration: %w", err)
	}
	c, err := Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("operator configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and validates one document.
func Parse(raw []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.UnmarshalStrict(raw, c); err != nil {
		return nil, err
	}
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *Config) setDefaults() {
	setDefault := func(field *string, value string) {
		*field = cmp.Or(*field, value)
	}
	setDefault(&c.OperandImagePullPolicy, "IfNotPresent")
	setDefault(&c.LogLevel, LogInfo)
	setDefault(&c.MetricsBindAddress, ":8080")
	setDefault(&c.HealthProbeBindAddress, ":8081")
	if c.VaultResyncInterval == 0 {
		c.VaultResyncInterval = config.Duration(10 * time.Minute)
	}
	c.LeaderElection = new(ptr.Deref(c.LeaderElection, true))
	for name, v := range c.VaultConnections {
		setDefault(&v.AuthMount, "kubernetes")
		setDefault(&v.TransitMount, "transit")
		setDefault(&v.KVMount, "secret")
		setDefault(&v.DatabaseMount, "database")
		setDefault(&v.Audience, "vault")
		setDefault(&v.TokenFile, "/var/run/secrets/vault/"+name+"/token")
		c.VaultConnections[name] = v
	}
}

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	mountPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*$`)
)

func (c *Config) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
	}
	if c.APIVersion != APIVersion || c.Kind != Kind {
		bad("apiVersion, kind", "must be %s and %s", APIVersion, Kind)
	}
	if c.ClusterID != "" {
		if err := vaultadmin.ValidateClusterID(c.ClusterID); err != nil {
			bad("clusterID", "%v", err)
		}
	}
	if c.OperandImage == "" || strings.ContainsAny(c.OperandImage, " \t\n") {
		bad("operandImage", "must be an image reference")
	}
	switch c.OperandImagePullPolicy {
	case "Always", "IfNotPresent", "Never":
	default:
		bad("operandImagePullPolicy", "must be Always, IfNotPresent or Never, not %q", c.OperandImagePullPolicy)
	}
	if c.LogLevel != LogInfo && c.LogLevel != LogDebug {
		bad("logLevel", "must be %s or %s, not %q", LogInfo, LogDebug, c.LogLevel)
	}
	if d := time.Duration(c.VaultResyncInterval); d < time.Minute || d > 24*time.Hour {
		bad("vaultResyncInterval", "must be 1m to 24h, not %s", d)
	}
	for field, address := range map[string]string{"metricsBindAddress": c.MetricsBindAddress, "healthProbeBindAddress": c.HealthProbeBindAddress} {
		if _, _, err := net.SplitHostPort(address); err != nil {
			bad(field, "%q is not host:port", address)
		}
	}
	for i, namespace := range c.WatchNamespaces {
		if !namePattern.MatchString(namespace) {
			bad(fmt.Sprintf("watchNamespaces[%d]", i), "%q is not a namespace", namespace)
		}
	}
	if !namePattern.MatchString(c.OperatorNamespace) {
		bad("operatorNamespace", "%q is not a namespace", c.OperatorNamespace)
	}
	if c.OperatorServiceAccount == "" {
		bad("operatorServiceAccount", "is required")
	}
	for _, name := range c.ConnectionNames() {
		c.VaultConnections[name].validate("vaultConnections."+name, name, bad)
	}
	c.validateShared(bad)
	return errors.Join(errs...)
}

// validateShared rejects connections that share roles in Vault but not the mounts or the audience:
// vault-setup for one of them would remove the rights of the other.
func (c *Config) validateShared(bad func(field, format string, args ...any)) {
	all := c.Connections()
	for i, one := range all {
		for _, other := range all[:i] {
			if !one.SharesRoles(other) {
				continue
			}
			for _, setting := range []struct{ name, one, other string }{
				{"transitMount", one.TransitMount, other.TransitMount}, {"kvMount", one.KVMount, other.KVMount},
				{"databaseMount", one.DatabaseMount, other.DatabaseMount}, {"audience", one.Audience, other.Audience},
			} {
				if setting.one != setting.other {
					bad("vaultConnections."+one.Name+"."+setting.name, "is %q, but %q in vaultConnections.%s, which has the same address, namespace and authMount: "+
						"give one of them another authMount, or both the same %s", setting.one, setting.other, other.Name, setting.name)
				}
			}
		}
	}
}

func (v VaultConnection) validate(field, name string, bad func(field, format string, args ...any)) {
	if !namePattern.MatchString(name) {
		bad(field, "the name must have only lower-case letters, digits and dashes, at most 63")
	}
	if u, err := url.Parse(v.Address); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		bad(field+".address", "must be an https URL without credentials")
	}
	if v.CABundle != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(v.CABundle)) {
		bad(field+".caBundle", "has no PEM certificate")
	}
	for part, mount := range map[string]string{"authMount": v.AuthMount, "transitMount": v.TransitMount, "kvMount": v.KVMount, "databaseMount": v.DatabaseMount} {
		if !mountPattern.MatchString(mount) {
			bad(field+"."+part, "%q is not a mount path (no slash at either end)", mount)
		}
	}
}

// ConnectionNames returns the names of the connections in alphabetical order.
func (c *Config) ConnectionNames() []string {
	return slices.Sorted(maps.Keys(c.VaultConnections))
}

// Connections returns the connections for the Vault client, ordered by name.
func (c *Config) Connections() []vaultadmin.Connection {
	connections := make([]vaultadmin.Connection, 0, len(c.VaultConnections))
	for _, name := range c.ConnectionNames() {
		v := c.VaultConnections[name]
		connections = append(connections, vaultadmin.Connection{
			Name: name, Address: v.Address, CABundle: v.CABundle, Namespace: v.Namespace,
			AuthMount: v.AuthMount, TransitMount: v.TransitMount, KVMount: v.KVMount, DatabaseMount: v.DatabaseMount,
			Audience: v.Audience, TokenFile: v.TokenFile,
		})
	}
	return connections
}
