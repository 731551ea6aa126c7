package securenotes

import (
	"crypto/x509"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/served"
)

// secretFinding returns what the pods report of the certificate in the user's Secret. The operator
// may not read the Secret, so a fault shows only in a pod that does not start.
func secretFinding(sn *v1alpha1.SecureNotes, report podReport) finding {
	name := sn.Spec.TLS.SecretRef.Name
	said, why := report.termination, report.cause
	switch {
	case said != nil && said.Reason == v1alpha1.ReasonCertificateInvalid:
		return bad(v1alpha1.ReasonCertificateInvalid,
			fmt.Sprintf("Secret %s: %s: store a matching tls.crt and tls.key in it, in PEM", name, said.Message))
	case why.Reason == v1alpha1.ReasonPodNotStarted && strings.Contains(why.Message, fmt.Sprintf("secret %q not found", name)):
		return bad(v1alpha1.ReasonCertificateInvalid,
			fmt.Sprintf("Secret %s does not exist: create it, of type kubernetes.io/tls, with tls.crt and tls.key", name))
	case report.ready:
		return good(v1alpha1.ReasonFromSecret, "the service uses the certificate of Secret "+name)
	default:
		return unknown(v1alpha1.ReasonFromSecret, "no pod uses the certificate of Secret "+name+" yet; the Secret must have tls.crt and tls.key")
	}
}

// secretReady returns the condition of a certificate of spec.tls.secretRef.
func secretReady(s *scope) finding {
	if s.report == nil {
		return finding{}
	}
	f := s.ofThisSpec(secretFinding(s.sn, *s.report))
	if f.status != metav1.ConditionTrue || s.served == nil {
		return f
	}
	certificate := s.served.certificate
	if certificate.NotAfter.IsZero() {
		f.message += "; its end is not known, because the operator cannot reach port 8443 of a pod"
		return f
	}
	if hosts := uncoveredHostnames(s.sn, certificate); len(hosts) > 0 && s.notAfter.After(s.now) {
		return nameMismatch(s.sn, certificate.DNSNames, hosts)
	}
	return s.expiry(f, expiryWarning(certificate), "store a renewed one in Secret "+s.sn.Spec.TLS.SecretRef.Name+", which the service reads without a restart")
}

// maxNamesShown bounds the names of a certificate in a message.
const maxNamesShown = 5

// uncoveredHostnames returns those of spec.hostnames for which clients reject the certificate.
func uncoveredHostnames(sn *v1alpha1.SecureNotes, c served.Certificate) []string {
	var hosts []string
	certificate := x509.Certificate{DNSNames: c.DNSNames}
	for _, host := range sn.Spec.Hostnames {
		if certificate.VerifyHostname(host) != nil {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

func nameMismatch(sn *v1alpha1.SecureNotes, names, hosts []string) finding {
	has, missing := "has no DNS name, and lacks ", strings.Join(hosts, ", ")
	if len(names) > 0 {
		shown := strings.Join(names[:min(len(names), maxNamesShown)], ", ")
		if more := len(names) - maxNamesShown; more > 0 {
			shown += fmt.Sprintf(" and %d more", more)
		}
		has = "names " + cause.Sanitize(shown) + ", not "
	}
	it := "it"
	if len(hosts) > 1 {
		it = "them"
	}
	return bad(v1alpha1.ReasonCertificateNameMismatch, fmt.Sprintf(
		"the certificate of Secret %s %s%s: store one that names %s in the Secret, or correct spec.hostnames", sn.Spec.TLS.SecretRef.Name, has, missing, it))
}
