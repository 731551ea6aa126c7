package operand

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// The defaults of fields that the service does not know. Package config has the other ones.
// Defaults are never written to a spec, so that an unset field follows the operator's version.
const (
	DefaultVaultConnection = "default"

	defaultReplicas         = 1
	defaultPostgresReplicas = 2
	defaultStorageSize      = "1Gi"
	defaultIssuerKind       = "Issuer"
	defaultCertificateLife  = 90 * 24 * time.Hour
	defaultRetainOldVersion = 30 * 24 * time.Hour
	maxTrimAfter            = 87600 * time.Hour
	maxKeepAge              = 87600 * time.Hour
	defaultParallelism      = 1
	defaultHistoryLimit     = 5
	defaultTokenTTL         = time.Hour
)

// IsEmbedded reports whether the notes are in SQLite on a volume of their own.
func IsEmbedded(sn *v1alpha1.SecureNotes) bool {
	return sn.Spec.Database == nil || sn.Spec.Database.Postgres == nil
}

// UsesVaultCredentials reports whether Vault creates the database users.
func UsesVaultCredentials(sn *v1alpha1.SecureNotes) bool {
	return !IsEmbedded(sn) && sn.Spec.Database.Postgres.VaultCredentials != nil
}

// Replicas returns the number of replicas of the API.
func Replicas(sn *v1alpha1.SecureNotes) int32 {
	switch {
	case IsEmbedded(sn):
		return defaultReplicas
	case sn.Spec.Replicas != nil:
		return *sn.Spec.Replicas
	default:
		return defaultPostgresReplicas
	}
}

// VaultConnection returns the name of the Vault connection.
func VaultConnection(sn *v1alpha1.SecureNotes) string {
	if sn.Spec.VaultConnection == "" {
		return DefaultVaultConnection
	}
	return sn.Spec.VaultConnection
}

// Rotation is a KeyRotationPolicy with defaults.
type Rotation struct {
	// Schedule in Cron format. Empty: only on demand.
	Schedule, TimeZone  string
	Strategy            v1alpha1.RotationStrategy
	RetainOldVersionFor time.Duration
	Suspend             bool
	Parallelism         int32
	// MaxNotesPerSecond of all pods together. 0: no limit.
	MaxNotesPerSecond int32
	HistoryLimit      int
}

// DefaultTimeZone is the time zone of a schedule that has none.
const DefaultTimeZone = "Etc/UTC"

// ResolveRotation returns the rotation policy with defaults.
func ResolveRotation(sn *v1alpha1.SecureNotes) Rotation {
	policy := sn.Spec.KeyRotation
	if policy == nil {
		policy = &v1alpha1.KeyRotationPolicy{}
	}
	rotation := Rotation{
		Schedule:            policy.Schedule,
		TimeZone:            cmp.Or(policy.TimeZone, DefaultTimeZone),
		Strategy:            cmp.Or(policy.Strategy, v1alpha1.StrategyReencrypt),
		RetainOldVersionFor: duration(policy.RetainOldVersionFor, defaultRetainOldVersion),
		Suspend:             ptr.Deref(policy.Suspend, false),
		Parallelism:         ptr.Deref(policy.Parallelism, defaultParallelism),
		MaxNotesPerSecond:   ptr.Deref(policy.MaxNotesPerSecond, 0),
		HistoryLimit:        int(ptr.Deref(policy.HistoryLimit, defaultHistoryLimit)),
	}
	if IsEmbedded(sn) {
		rotation.Parallelism = 1
	}
	return rotation
}

// ResolveKeep returns how many of the newest backups are kept, and how long a backup is kept; 0 if
// unset. A value that cannot be parsed counts as the longest one.
func ResolveKeep(keep *v1alpha1.BackupKeep) (count int, age time.Duration) {
	if keep.Age != "" {
		age = duration(keep.Age, maxKeepAge)
	}
	return int(ptr.Deref(keep.Count, 0)), age
}

// TrimAfter returns how long ago a version must have stopped decrypting. A value that cannot be
// parsed counts as the longest one.
func TrimAfter(trim *v1alpha1.Trim) time.Duration { return duration(trim.After, maxTrimAfter) }

func resolveAuth(sn *v1alpha1.SecureNotes) config.Auth {
	auth := sn.Spec.Auth
	if auth == nil {
		auth = &v1alpha1.Auth{}
	}
	return config.Auth{
		Registration:      config.RegistrationMode(cmp.Or(auth.Registration, string(config.RegistrationOpen))),
		TokenTTL:          config.Duration(duration(auth.TokenTTL, defaultTokenTTL)),
		BcryptCost:        int(ptr.Deref(auth.BcryptCost, config.MinBcryptCost)),
		MinPasswordLength: int(ptr.Deref(auth.MinPasswordLength, config.MinPasswordLength)),
	}
}

func resolveRateLimits(sn *v1alpha1.SecureNotes) config.RateLimits {
	limits := sn.Spec.RateLimits
	if limits == nil {
		limits = &v1alpha1.RateLimits{}
	}
	resolved := config.RateLimits{
		FailedLoginsPerMinute: int(ptr.Deref(limits.FailedLoginsPerMinute, config.DefaultFailedLogins)),
		RequestsPerMinute:     int(ptr.Deref(limits.RequestsPerMinute, config.DefaultRequests)),
		RegistrationsPerDay:   int(ptr.Deref(limits.RegistrationsPerDay, config.DefaultRegistrations)),
	}
	if limits.Memory != nil {
		resolved.Memory = &config.Memory{}
	}
	if limits.Redis != nil {
		resolved.Redis = &config.Redis{URIFile: config.RedisDirectory + "/" + config.URIFile}
		if limits.Redis.CASecretRef != nil {
			resolved.Redis.CAFile = config.RedisCADirectory + "/" + config.CAFile
		}
	}
	return resolved
}

func resolveQuotas(sn *v1alpha1.SecureNotes) config.Quotas {
	quotas := sn.Spec.Quotas
	if quotas == nil {
		quotas = &v1alpha1.Quotas{}
	}
	// Admission has checked the notation. A value that got past it counts as unset.
	noteBytes := int64(config.DefaultNoteBytes)
	if quantity, err := readQuantity(quotas.Bytes); err == nil {
		noteBytes = quantity.Value()
	}
	return config.Quotas{
		Accounts: int64(ptr.Deref(quotas.Accounts, config.DefaultAccounts)),
		Notes:    int64(ptr.Deref(quotas.Notes, config.DefaultNotes)),
		Bytes:    noteBytes,
	}
}

// quantityPattern is the validation pattern of v1alpha1.Quantity. A value must match it before it
// is parsed, because a large exponent takes seconds to parse.
var quantityPattern = regexp.MustCompile(`^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`)

// CheckResources returns an error if spec.resources cannot be parsed, or if the pod template is too
// large. Admission checks both, but an object may have been stored under an older schema, and no
// pod may start with other resources than the spec's.
func CheckResources(sn *v1alpha1.SecureNotes) error {
	if err := checkScheduling(sn); err != nil {
		return err
	}
	_, err := readResources(sn)
	return err
}

// resolveResources returns the resources with defaults. Those that CheckResources rejects count as
// unset.
func resolveResources(sn *v1alpha1.SecureNotes) corev1.ResourceRequirements {
	if sn.Spec.Resources != nil {
		if resources, err := readResources(sn); err == nil {
			return resources
		}
	}
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("64Mi"),
		},
		// No CPU limit: throttling would lengthen every login, which is CPU work.
		Limits: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
	}
}

func readResources(sn *v1alpha1.SecureNotes) (corev1.ResourceRequirements, error) {
	if sn.Spec.Resources == nil {
		return corev1.ResourceRequirements{}, nil
	}
	requests, err := readQuantities("requests", sn.Spec.Resources.Requests)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	limits, err := readQuantities("limits", sn.Spec.Resources.Limits)
	if err != nil {
		return corev1.ResourceRequirements{}, err
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}, nil
}

func readQuantities(field string, quantities map[string]v1alpha1.Quantity) (corev1.ResourceList, error) {
	if quantities == nil {
		return nil, nil
	}
	list := corev1.ResourceList{}
	// In order, so that the error is always the same.
	for _, name := range slices.Sorted(maps.Keys(quantities)) {
		quantity, err := readQuantity(string(quantities[name]))
		if err != nil {
			return nil, fmt.Errorf("spec.resources.%s of %.64q cannot be read: write an amount such as 250m or 64Mi", field, name)
		}
		list[corev1.ResourceName(name)] = quantity
	}
	return list, nil
}

func readQuantity(text string) (resource.Quantity, error) {
	if !quantityPattern.MatchString(text) {
		return resource.Quantity{}, resource.ErrFormatWrong
	}
	return resource.ParseQuantity(text)
}

func resolvePodTemplate(sn *v1alpha1.SecureNotes) v1alpha1.PodTemplate {
	if sn.Spec.PodTemplate == nil {
		return v1alpha1.PodTemplate{}
	}
	return *sn.Spec.PodTemplate
}

// duration parses an API field. A value that an older schema allowed and that cannot be parsed
// counts as unset.
func duration(text v1alpha1.Duration, unset time.Duration) time.Duration {
	if d, err := time.ParseDuration(string(text)); err == nil {
		return d
	}
	return unset
}
