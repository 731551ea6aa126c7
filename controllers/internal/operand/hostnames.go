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
	// inCluster are names of Services and pods. Which domain the cluster has is not known.
	inCluster = regexp.MustCompile(`\.(svc|cluster\.local)$|^[^.]+\.[^.]+\.(.+\.)?svc\.`)
)

// commonNameLength is the longest that RFC 5280 allows.
const commonNameLength = 64

// RefuseHostname says why a certificate may not name a hostname: an issuer that teams share would
// let one of them answer for a Service of another. Empty: it may. The names of admission are
// refused here, too, for objects that were stored before. exists reports whether there is a
// namespace: pods find NAME.NAMESPACE by their search domains.
func RefuseHostname(sn *v1alpha1.SecureNotes, host string, exists func(namespace string) (bool, error)) (why string, err error) {
	if host == "localhost" || slices.Contains(serviceNames(sn), host) {
		return "", nil
	}
	_, domain, dotted := strings.Cut(host, ".")
	switch {
	case numericEnd.MatchString(host):
		return "is an IP address", nil
	case !dotted:
		return "has no dot, and may be the Service of another team", nil
	case inCluster.MatchString(host):
		return "is the name of a Service or a pod in the cluster", nil
	case strings.Contains(domain, "."):
		return "", nil
	}
	found, err := exists(domain)
	if err != nil || !found {
		return "", err
	}
	return "may be a Service in namespace " + domain, nil
}

// serviceNames returns the names of the Service within the cluster.
func serviceNames(sn *v1alpha1.SecureNotes) []string {
	host := ServiceHost(sn)
	return []string{sn.Name, strings.TrimSuffix(host, ".svc"), host, host + ".cluster.local"}
}

// dnsNames of the certificate: the hostnames that are not refused, and the Service's own names. A
// certificate that would have no name has the Service's, whatever is asked for.
func dnsNames(sn *v1alpha1.SecureNotes, refused []string) []string {
	var names []string
	add := func(all []string) {
		for _, name := range all {
			if !slices.Contains(names, name) && !slices.Contains(refused, name) {
				names = append(names, name)
			}
		}
	}
	add(sn.Spec.Hostnames)
	if sn.Spec.TLS.CertManager.ServiceNames != v1alpha1.ServiceNamesExclude || len(names) == 0 {
		add(serviceNames(sn))
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
