package operand

import (
	"slices"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestRefuseHostname checks that what admission rejects is rejected here, too, because an object
// may have been stored before.
func TestRefuseHostname(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"notes.example.com":                   "",
		"localhost":                           "",
		"example.com":                         "",
		"notes.svc.example.com":               "",
		"notes":                               "no dot",
		"cluster.local":                       "in the cluster",
		"notcluster.local":                    "",
		"10-0-0-1.victim.pod":                 "in the cluster",
		"2001-db8--1.victim.pod":              "in the cluster",
		"10-0-0-1.victim.pod.corp.example":    "in the cluster",
		"notes.eu.pod.example.com":            "",
		"etcd-0.etcd":                         "",
		"etcd-0.etcd.pod.example.com":         "",
		"notes.demo":                          "",
		"notes.demo.svc":                      "",
		"notes.demo.svc.cluster.local":        "",
		"other":                               "no dot",
		"other.demo":                          "in namespace demo",
		"other.victim":                        "in namespace victim",
		"other.demo.svc":                      "in the cluster",
		"notes.victim.svc":                    "in the cluster",
		"other.victim.svc.cluster.local":      "in the cluster",
		"other.victim.svc.corp.example.com":   "in the cluster",
		"pod-0.other.victim.svc":              "in the cluster",
		"pod-0.other.victim.svc.corp.example": "in the cluster",
		"192-0-2-1.victim.pod.cluster.local":  "in the cluster",
		"192.0.2.1":                           "IP address",
		"10.1":                                "IP address",
		"3221225985":                          "IP address",
	} {
		got, _, err := RefuseHostname(embedded(), host, nil, func(namespace string) (bool, error) {
			return namespace == "demo" || namespace == "victim", nil
		})
		if err != nil || (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, %v; want %q", host, got, err, want)
		}
	}
}

// TestHostnamesOfCertificate checks that a namespace that is created later does not remove a name
// from an existing Certificate, and that names that admission rejects are removed.
func TestHostnamesOfCertificate(t *testing.T) {
	t.Parallel()
	for host, tc := range map[string]struct {
		why  string
		kept bool
	}{
		"acme.shop":        {why: "in namespace shop", kept: true},
		"other.shop":       {why: "in namespace shop"},
		"acme.com":         {kept: true},
		"notes":            {why: "", kept: false},
		"other":            {why: "no dot"},
		"other.victim.svc": {why: "in the cluster"},
	} {
		why, kept, err := RefuseHostname(embedded(), host, []string{"acme.shop", "acme.com", "notes", "other", "other.victim.svc"}, func(namespace string) (bool, error) {
			return namespace == "shop", nil
		})
		if err != nil || (why == "") != (tc.why == "") || !strings.Contains(why, tc.why) || kept != tc.kept {
			t.Errorf("%s: %q, kept %t, %v; want %q, %t", host, why, kept, err, tc.why, tc.kept)
		}
	}
}

func TestCertificateNames(t *testing.T) {
	t.Parallel()
	long, own := strings.Repeat("a", 60)+".example.com", []string{"notes.demo", "notes.demo.svc", "notes.demo.svc.cluster.local"}
	for name, tc := range map[string]struct {
		hostnames, refused []string
		existing           []string
		change             func(*v1alpha1.CertManager)
		names              []string
		common             string
	}{
		"no hostname":        {names: own},
		"of a past release":  {existing: []string{"notes", "notes.demo"}, names: append([]string{"notes"}, own...)},
		"of others":          {existing: []string{"other", "notes.demo"}, names: own},
		"as before":          {hostnames: []string{"b.example.com", "a.example.com"}, names: append([]string{"b.example.com", "a.example.com"}, own...)},
		"one of its own":     {hostnames: []string{"notes.demo.svc"}, names: []string{"notes.demo.svc", "notes.demo", "notes.demo.svc.cluster.local"}},
		"twice the same":     {hostnames: []string{"a.example.com", "a.example.com"}, names: append([]string{"a.example.com"}, own...)},
		"refused":            {hostnames: []string{"other", "a.example.com"}, refused: []string{"other"}, names: append([]string{"a.example.com"}, own...)},
		"common name":        {hostnames: []string{long, "a.example.com"}, change: withCommonName, names: append([]string{long, "a.example.com"}, own...), common: "a.example.com"},
		"no common name":     {hostnames: []string{long}, change: withCommonName, names: append([]string{long}, own...)},
		"common, refused":    {hostnames: []string{"other", "a.example.com"}, refused: []string{"other"}, change: withCommonName, names: append([]string{"a.example.com"}, own...), common: "a.example.com"},
		"hostnames only":     {hostnames: []string{"a.example.com"}, change: withoutServices, names: []string{"a.example.com"}},
		"only refused ones":  {hostnames: []string{"other"}, refused: []string{"other"}, change: withoutServices, names: own},
		"written out as now": {hostnames: []string{"a.example.com"}, change: writtenOut, names: append([]string{"a.example.com"}, own...)},
	} {
		t.Run(name, func(t *testing.T) {
			sn, env := embedded(), environment()
			sn.Spec.Hostnames, env.RefusedHostnames = tc.hostnames, tc.refused
			env.CertificateNames = tc.existing
			if tc.change != nil {
				tc.change(sn.Spec.TLS.CertManager)
			}
			got := Certificate(sn, env).Spec
			if !slices.Equal(got.DNSNames, tc.names) || got.CommonName != tc.common {
				t.Errorf("names %v, common name %q; want %v, %q", got.DNSNames, got.CommonName, tc.names, tc.common)
			}
		})
	}
}

func withCommonName(c *v1alpha1.CertManager)  { c.CommonName = v1alpha1.CommonNameFirstHostname }
func withoutServices(c *v1alpha1.CertManager) { c.ServiceNames = v1alpha1.ServiceNamesExclude }
func writtenOut(c *v1alpha1.CertManager) {
	c.CommonName, c.ServiceNames = v1alpha1.CommonNameNone, v1alpha1.ServiceNamesInclude
}
