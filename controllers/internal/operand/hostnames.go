package operand

import (
	"regexp"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

var (
	// numericEnd is what makes a name an IP address to clients.
	numericEnd = regexp.MustCompile(`(^|\.)[0-9]+$`)
	// inCluster are names of Services and pods. Which domain the cluster has is not known. There is
	// no public domain svc or pod.
	inCluster = regexp.MustCompile(`(^|\.)cluster\.local$|\.(svc|pod)$|^[^.]+\.[^.]+\.(.+\.)?svc\.|^[0-9a-f]*-[0-9a-f-]+\.[^.]+\.pod\.`)
)

// commonNameLength is the longest that RFC 5280 allows.
const commonNameLength = 64

// RefuseHostname returns why a certificate may not name a hostname: an issuer that teams share
// would let one of them answer for a Service of another. Empty: it may. The names of admission are
// refused here, too, for objects that were stored before. exists reports whether there is a
// namespace: pods find NAME.NAMESPACE by their search domains. kept reports that the hostname stays
// nevertheless, because the Certificate that exists, with the names given, has it: a namespace that
// is created later takes no name away.
func RefuseHostname(sn *v1alpha1.SecureNotes, host string, names []string, exists func(namespace string) (bool, error)) (why string, kept bool, err error) {
	if host == "localhost" || slices.Contains(serviceNames(sn, names), host) {
		return "", false, nil
	}
	_, domain, dotted := strings.Cut(host, ".")
	switch {
	case numericEnd.MatchString(host):
		return "is an IP address", false, nil
	case !dotted:
		return "has no dot, and may be the Service of another team", false, nil
	case inCluster.MatchString(host):
		return "is the name of a Service or a pod in the cluster", false, nil
	case strings.Contains(domain, "."):
		return "", false, nil
	}
	kept = slices.Contains(names, host)
	found, err := exists(domain)
	if err != nil || !found {
		return "", kept, err
	}
	return "may be a Service in namespace " + domain, kept, nil
}

// serviceNames returns the names of the Service within the cluster. Its name alone is a Service of
// any namespace to the pods there: only a Certificate that exists, with the names given, keeps it.
func serviceNames(sn *v1alpha1.SecureNotes, names []string) []string {
	host := ServiceHost(sn)
	own := []string{strings.TrimSuffix(host, ".svc"), host, host + ".cluster.local"}
	if slices.Contains(names, sn.Name) {
		return append([]string{sn.Name}, own...)
	}
	return own
}

// dnsNames of the certificate: the hostnames that are not refused, and the Service's own names. A
// certificate that would have no name has the Service's, whatever is asked for.
func dnsNames(sn *v1alpha1.SecureNotes, env Environment) []string {
	var names []string
	add := func(all []string) {
		for _, name := range all {
			if !slices.Contains(names, name) && !slices.Contains(env.RefusedHostnames, name) {
				names = append(names, name)
			}
		}
	}
	add(sn.Spec.Hostnames)
	if sn.Spec.TLS.CertManager.ServiceNames != v1alpha1.ServiceNamesExclude || len(names) == 0 {
		add(serviceNames(sn, env.CertificateNames))
	}
	return names
}

// commonName of the certificate; empty: none.
func commonName(sn *v1alpha1.SecureNotes, refused []string) string {
	if sn.Spec.TLS.CertManager.CommonName != v1alpha1.CommonNameFirstHostname {
		return ""
	}
	for _, name := range sn.Spec.Hostnames {
		if len(name) <= commonNameLength && !slices.Contains(refused, name) {
			return name
		}
	}
	return ""
}
