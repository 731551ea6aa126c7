package securenotes

import (
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/served"
)

// secretFinding returns what the pods say of the user's own certificate. The operator may not read
// the Secret, so a fault shows only in a pod that does not start with it.
func secretFinding(sn *v1alpha1.SecureNotes, report podReport) finding {
	name := sn.Spec.TLS.SecretRef.Name
	said, why := report.termination, report.cause
	switch {
	case said != nil && said.Reason == v1alpha1.ReasonCertificateInvalid:
		return bad(v1alpha1.ReasonCertificateInvalid,
			fmt.Sprintf("Secret %s: %s: put a matching tls.crt and tls.key into it, in PEM", name, said.Message))
	case why.Reason == v1alpha1.ReasonPodNotStarted && strings.Contains(why.Message, fmt.Sprintf("secret %q not found", name)):
		return bad(v1alpha1.ReasonCertificateInvalid,
			fmt.Sprintf("Secret %s does not exist: create it, of type kubernetes.io/tls, with tls.crt and tls.key", name))
	case report.ready:
		return good(v1alpha1.ReasonFromSecret, "the service serves with the certificate of Secret "+name)
	default:
		return unknown(v1alpha1.ReasonFromSecret, "no pod serves yet with the certificate of Secret "+name+", which must have tls.crt and tls.key")
	}
}

// maxNamesShown bounds how many names of a certificate a message has.
const maxNamesShown = 5

// unnamed returns those of spec.hostnames for which clients refuse a certificate.
func unnamed(sn *v1alpha1.SecureNotes, c served.Certificate) []string {
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
		has = "names " + cause.Words(shown) + ", not "
	}
	it := "it"
	if len(hosts) > 1 {
		it = "them"
	}
	return bad(v1alpha1.ReasonCertificateNameMismatch, fmt.Sprintf(
		"the certificate of Secret %s %s%s: put one that names %s into the Secret, or correct spec.hostnames", sn.Spec.TLS.SecretRef.Name, has, missing, it))
}
