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

// Components of one SecureNotes, as their pods are labelled.
const (
	ComponentAPI      = "api"
	ComponentRotation = "rotation"
	ComponentVerify   = "verify"
)

// Labels of every object that the operator makes.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelComponent = "app.kubernetes.io/component"
	labelName      = "app.kubernetes.io/name"
	labelPartOf    = "app.kubernetes.io/part-of"

	// LabelOwner is LabelInstance for what must outlive an owner: Argo CD takes whatever has
	// LabelInstance for its own where it tracks by label, and prunes it.
	LabelOwner = "securenotes.dev/instance"

	// ManagedBy is the value of LabelManagedBy; the operator's cache holds only objects that have it.
	ManagedBy = "securenotes-operator"
	product   = "securenotes"

	// AnnotationDeploymentID on the embedded volume says whose notes it holds.
	AnnotationDeploymentID = "securenotes.dev/deployment-id"
	annotationConfigHash   = "securenotes.dev/config-hash"
	// annotationSessionKeys on the API's pods names the entry of the session keys that they began with. It is
	// absent until the first keys are replaced, so that an operator's upgrade restarts no pod.
	annotationSessionKeys = "securenotes.dev/session-keys"
)

// Labels of an object; component may be empty.
func Labels(sn client.Object, component string) map[string]string {
	labels := map[string]string{
		labelName: product, LabelInstance: sn.GetName(), LabelManagedBy: ManagedBy, labelPartOf: product,
	}
	if component != "" {
		labels[LabelComponent] = component
	}
	return labels
}

// Selector of the API's pods. It never changes: a Deployment's selector cannot.
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
	// Ours win: Services and selectors depend on them.
	maps.Copy(merged, base)
	return merged
}

// ConfigMapName holds the configuration files.
func ConfigMapName(name string) string { return name + "-config" }

// CertificateName is of the Certificate.
func CertificateName(name string) string { return name + "-tls" }

// CertificateSecretName returns the Secret that cert-manager writes. cert-manager overwrites a
// Secret of that name, and the operator may not look whether there is one: so nobody else may have
// such a name. Not even FormerCertificateSecretName of another SecureNotes is one.
func CertificateSecretName(name string) string { return name + "-securenotes-certificate" }

// FormerCertificateSecretName returns the Secret that an earlier release had cert-manager write.
func FormerCertificateSecretName(name string) string { return name + "-tls" }

// ClaimName is of the embedded database's volume.
func ClaimName(name string) string { return name + "-data" }

// ProgressName is of the ConfigMap that rotation Jobs report their progress in.
func ProgressName(name string) string { return name + "-rotation-progress" }

// APIServiceAccount is what the API's pods run as.
func APIServiceAccount(name string) string { return name + config.ServiceAccountAPISuffix }

// RotationServiceAccount is what rotation Jobs run as.
func RotationServiceAccount(name string) string { return name + config.ServiceAccountRotationSuffix }

// ReencryptJobName of one attempt.
func ReencryptJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-rotate-v%d-%d", name, to, attempt)
}

// VerifyJobName of one attempt.
func VerifyJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-verify-v%d-%d", name, to, attempt)
}

// RetireJobName of one attempt at the verification before a retirement.
func RetireJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-retire-v%d-%d", name, to, attempt)
}

// TrimJobName of one attempt at the verification before versions are destroyed.
func TrimJobName(name string, to int64, attempt int32) string {
	return fmt.Sprintf("%s-trim-v%d-%d", name, to, attempt)
}

// ServiceHost is the Service's name within the cluster.
func ServiceHost(sn client.Object) string { return sn.GetName() + "." + sn.GetNamespace() + ".svc" }

// URL that clients use: the first of the hostnames that is not refused, or the Service's own.
func URL(sn *v1alpha1.SecureNotes, refused []string) string {
	for _, host := range sn.Spec.Hostnames {
		if !slices.Contains(refused, host) {
			return "https://" + host
		}
	}
	return "https://" + ServiceHost(sn)
}

// SelectorString is Selector in the notation of the scale subresource.
func SelectorString(sn client.Object) string {
	return metav1.FormatLabelSelector(&metav1.LabelSelector{MatchLabels: Selector(sn)})
}

// TLSSecretName is where the server's certificate is mounted from.
func TLSSecretName(sn *v1alpha1.SecureNotes, env Environment) string {
	if ref := sn.Spec.TLS.SecretRef; ref != nil {
		return ref.Name
	}
	return env.CertificateSecret
}
