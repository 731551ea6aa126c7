package securenotes

import (
	"testing"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestURLIsInTheCertificate: status.url uses a name that the certificate has.
func TestURLIsInTheCertificate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hostnames, refused []string
		want               string
	}{
		"no hostname":           {want: "https://notes.demo.svc"},
		"the first":             {hostnames: []string{"a.example.com", "b.example.com"}, want: "https://a.example.com"},
		"the first is refused":  {hostnames: []string{"a.demo", "b.example.com"}, refused: []string{"a.demo"}, want: "https://b.example.com"},
		"a later one is":        {hostnames: []string{"a.example.com", "b.demo"}, refused: []string{"b.demo"}, want: "https://a.example.com"},
		"every name is refused": {hostnames: []string{"a.demo"}, refused: []string{"a.demo"}, want: "https://notes.demo.svc"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(func(s *scope) {
				s.sn.Spec.TLS = v1alpha1.TLS{CertManager: &v1alpha1.CertManager{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
				s.sn.Spec.Hostnames, s.env.RefusedHostnames = tc.hostnames, tc.refused
			})
			if got := computeStatus(s).URL; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// TestURLStaysWithoutHostnameCheck: a pass that does not know the refused hostnames, as when the
// API server does not answer, does not change the URL.
func TestURLStaysWithoutHostnameCheck(t *testing.T) {
	t.Parallel()
	s := healthy(func(s *scope) {
		s.sn.Spec.TLS = v1alpha1.TLS{CertManager: &v1alpha1.CertManager{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
		s.sn.Spec.Hostnames, s.sn.Status.URL = []string{"a.demo", "b.example.com"}, "https://b.example.com"
		s.sn.Status.ObservedGeneration = s.sn.Generation
		s.certificateFinding = finding{}
	})
	if got := computeStatus(s).URL; got != "https://b.example.com" {
		t.Error(got)
	}
}
