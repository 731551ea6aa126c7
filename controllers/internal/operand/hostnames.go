package operand

import (
	"regexp"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

var (
	// numericEnd matches names that clients take for IP addresses.
	numericEnd = regexp.MustCompile(`(^|\.)[0-9]+$`)
	// inCluster matches names of Services and pods. The operator does not know the cluster's
	// domain. There is no public domain svc or pod.
	inCluster = regexp.MustCompile(`(^|\.)cluster\.local$|\.(svc|pod)$|^[^.]+\.[^.]+\.(.+\.)?svc\.|^[0-9a-f]*-[0-9a-f-]+\.[^.]+\.pod\.`)
)

// commonNameLength is the maximum of RFC 5280.
const commonNameLength = 64

// RefuseHostname returns why a certificate may not have a hostname; empty: it may. With an issuer
// that teams share, one team could otherwise impersonate a Service of another one. It also rejects
// what admission rejects, because an object may have been stored before. exists reports whether a
// namespace exists: pods resolve NAME.NAMESPACE by their search domains. kept reports that the
// existing Certificate, which has names, keeps the hostname nevertheless: a namespace that is
// created later does not remove it.
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

// serviceNames returns the names of the Service within the cluster. To pods of other namespaces,
// the Service's name alone is one of their own Services. Only an existing Certificate that has it,
// by names, keeps it.
func serviceNames(sn *v1alpha1.SecureNotes, names []string) []string {
	host := ServiceHost(sn)
	own := []string{strings.TrimSuffix(host, ".svc"), host, host + ".cluster.local"}
	if slices.Contains(names, sn.Name) {
		return append([]string{sn.Name}, own...)
	}
	return own
}

// dnsNames returns the names of the certificate: the hostnames that are not refused, and the
// Service's names. If the certificate would have no name, it has the Service's names, whatever the
// spec says.
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

// commonName returns the common name of the certificate. Empty: none.
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
