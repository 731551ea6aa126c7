package operand

import (
	"cmp"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
)

// Service returns the Service of the API. It has the plain-HTTP metrics port only if it is not
// reachable from outside. If it is, nodes must preserve the addresses of clients, because failed
// logins are limited by address.
func Service(sn *v1alpha1.SecureNotes) *corev1.Service {
	wanted := sn.Spec.Service
	if wanted == nil {
		wanted = &v1alpha1.Service{}
	}
	service := &corev1.Service{
		ObjectMeta: meta(sn, sn.Name, ComponentAPI),
		Spec: corev1.ServiceSpec{
			Type:     cmp.Or(wanted.Type, corev1.ServiceTypeClusterIP),
			Selector: Selector(sn),
			Ports:    []corev1.ServicePort{servicePort(portHTTPS, 443)},
		},
	}
	service.Annotations = wanted.Annotations
	if service.Spec.Type == corev1.ServiceTypeClusterIP {
		service.Spec.Ports = append(service.Spec.Ports, servicePort(portMetrics, config.PortMetrics))
	} else {
		service.Spec.ExternalTrafficPolicy = cmp.Or(wanted.ExternalTrafficPolicy, corev1.ServiceExternalTrafficPolicyLocal)
	}
	return service
}

func servicePort(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: port, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromString(name)}
}

// Certificate returns the Certificate for cert-manager, or nil if the certificate comes from a
// Secret.
func Certificate(sn *v1alpha1.SecureNotes, env Environment) *certmanagerv1.Certificate {
	wanted := sn.Spec.TLS.CertManager
	if wanted == nil {
		return nil
	}
	life, renewBefore := certificateLife(wanted), RenewBefore(sn)
	return &certmanagerv1.Certificate{
		ObjectMeta: meta(sn, CertificateName(sn.Name), ComponentAPI),
		Spec: certmanagerv1.CertificateSpec{
			SecretName:  env.CertificateSecret,
			CommonName:  commonName(sn, env.RefusedHostnames),
			DNSNames:    dnsNames(sn, env),
			Duration:    &metav1.Duration{Duration: life},
			RenewBefore: &metav1.Duration{Duration: renewBefore},
			PrivateKey: &certmanagerv1.CertificatePrivateKey{
				Algorithm: certmanagerv1.ECDSAKeyAlgorithm, Size: 256,
				Encoding: certmanagerv1.PKCS8, RotationPolicy: certmanagerv1.RotationPolicyAlways,
			},
			Usages: []certmanagerv1.KeyUsage{certmanagerv1.UsageDigitalSignature, certmanagerv1.UsageServerAuth},
			IssuerRef: cmmeta.IssuerReference{
				Name: wanted.IssuerRef.Name, Kind: IssuerKind(sn), Group: certmanagerv1.SchemeGroupVersion.Group,
			},
		},
	}
}

func certificateLife(wanted *v1alpha1.CertManager) time.Duration {
	return duration(wanted.Duration, defaultCertificateLife)
}

// RenewBefore returns how long before its end cert-manager renews the certificate.
func RenewBefore(sn *v1alpha1.SecureNotes) time.Duration {
	wanted := sn.Spec.TLS.CertManager
	return duration(wanted.RenewBefore, certificateLife(wanted)/3).Truncate(time.Second)
}

// IssuerKind returns Issuer or ClusterIssuer.
func IssuerKind(sn *v1alpha1.SecureNotes) string {
	return cmp.Or(sn.Spec.TLS.CertManager.IssuerRef.Kind, defaultIssuerKind)
}
