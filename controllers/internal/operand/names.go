package operand

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// Components of one SecureNotes, the values of LabelComponent.
const (
	ComponentAPI      = "api"
	ComponentRotation = "rotation"
	ComponentVerify   = "verify"
	ComponentBackup   = "backup"
	ComponentRestore  = "restore"
	ComponentDrill    = "drill"
)

// Labels of every object that the operator creates.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelComponent = "app.kubernetes.io/component"
	labelName      = "app.kubernetes.io/name"
	labelPartOf    = "app.kubernetes.io/part-of"

	// LabelOwner replaces LabelInstance on objects that must outlive their owner. If Argo CD tracks
	// by label, it prunes objects with LabelInstance.
	LabelOwner = "securenotes.dev/instance"

	// ManagedBy is the value of LabelManagedBy. The operator's cache has only objects with it.
	ManagedBy = "securenotes-operator"
	product   = "securenotes"

	// AnnotationDeploymentID on the embedded volume says whose notes it holds.
	AnnotationDeploymentID = "securenotes.dev/deployment-id"
	annotationConfigHash   = "securenotes.dev/config-hash"
	// annotationSessionKeys on the API's pods names the entry of the session keys that they started
	// with. It is absent until the first keys are replaced, so that an upgrade of the operator
	// restarts no pod.
	annotationSessionKeys = "securenotes.dev/session-keys"
)

// Labels returns the labels of an object. component may be empty.
func Labels(sn client.Object, component string) map[string]string {
	labels := map[string]string{
		labelName: product, LabelInstance: sn.GetName(), LabelManagedBy: ManagedBy, labelPartOf: product,
	}
	if component != "" {
		labels[LabelComponent] = component
	}
	return labels
}

// Selector returns the labels that select the API's pods. It never changes, because a Deployment's
// selector is immutable.
func Selector(sn client.Object) map[string]string {
	return map[string]string{labelName: product, LabelInstance: sn.GetName(), LabelComponent: ComponentAPI}
}

func meta(sn *v1alpha1.SecureNotes, name, component string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: name, Namespace: sn.Namespace, Labels: Labels(sn, component),
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(sn, v1alpha1.GroupVersion.WithKind("SecureNotes"))},
	}
}

func overlay(base, extra map[string]string) map[string]string {
	merged := maps.Clone(extra)
	if merged == nil {
		merged = map[string]string{}
	}
	// Our labels take precedence: Services and selectors depend on them.
	maps.Copy(merged, base)
	return merged
}

// ConfigMapName returns the name of the ConfigMap with the configuration files.
func ConfigMapName(name string) string { return name + "-config" }

// CertificateName returns the name of the Certificate.
func CertificateName(name string) string { return name + "-tls" }

// CertificateSecretName returns the name of the Secret that cert-manager writes. cert-manager
// overwrites an existing Secret, and the operator has no right to look for one. So the name is one
// that nobody else uses, and not a FormerCertificateSecretName of another SecureNotes either.
func CertificateSecretName(name string) string { return name + "-securenotes-certificate" }

// FormerCertificateSecretName returns the name that earlier releases used.
func FormerCertificateSecretName(name string) string { return name + "-tls" }

// ClaimName returns the name of the embedded database's PersistentVolumeClaim.
func ClaimName(name string) string { return name + "-data" }

// ProgressName returns the name of the ConfigMap that rotation Jobs report to.
func ProgressName(name string) string { return name + "-rotation-progress" }

// APIServiceAccount returns the name of the API's service account.
func APIServiceAccount(name string) string { return name + config.ServiceAccountAPISuffix }

// RotationServiceAccount returns the name of the rotation Jobs' service account.
func RotationServiceAccount(name string) string { return name + config.ServiceAccountRotationSuffix }

// BackupServiceAccount returns the name of the service account of backup Jobs that write no escrow
// file.
func BackupServiceAccount(name string) string { return name + config.ServiceAccountBackupSuffix }

// BackupEscrowServiceAccount returns the name of the service account of backup Jobs that write an
// escrow file.
func BackupEscrowServiceAccount(name string) string {
	return name + config.ServiceAccountBackupEscrowSuffix
}

// RestoreServiceAccount returns the name of the service account of restore Jobs.
func RestoreServiceAccount(name string) string { return name + config.ServiceAccountRestoreSuffix }

// ReencryptJobName returns the name of one attempt's Job.
func ReencryptJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-rotate-v%d-%d", name, to, attempt)
}

// VerifyJobName returns the name of one attempt's Job.
func VerifyJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-verify-v%d-%d", name, to, attempt)
}

// RetireJobName returns the name of the Job of one attempt at the verification before a retirement.
func RetireJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-retire-v%d-%d", name, to, attempt)
}

// TrimJobName returns the name of the Job of one attempt at the verification before versions are
// destroyed.
func TrimJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-trim-v%d-%d", name, to, attempt)
}

// ServiceHost returns the Service's host name within the cluster.
func ServiceHost(sn client.Object) string { return sn.GetName() + "." + sn.GetNamespace() + ".svc" }

// URL returns the URL for clients, with the first hostname that is not refused, or else the
// Service's.
func URL(sn *v1alpha1.SecureNotes, refused []string) string {
	for _, host := range sn.Spec.Hostnames {
		if !slices.Contains(refused, host) {
			return "https://" + host
		}
	}
	return "https://" + ServiceHost(sn)
}

// SelectorString returns Selector in the notation of the scale subresource.
func SelectorString(sn client.Object) string {
	return metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: Selector(sn)})
}

// TLSSecretName returns the name of the Secret with the server's certificate.
func TLSSecretName(sn *v1alpha1.SecureNotes, env Environment) string {
	if ref := sn.Spec.TLS.SecretRef; ref != nil {
		return ref.Name
	}
	return env.CertificateSecret
}
