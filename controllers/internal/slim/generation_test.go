package slim

import (
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
)

// TestCertificateKeepsItsGeneration: without it, what cert-manager found for the last spec would
// pass for what it finds for this one.
func TestCertificateKeepsItsGeneration(t *testing.T) {
	t.Parallel()
	certificate := &certmanagerv1.Certificate{}
	certificate.Generation = 4
	certificate.Status.Conditions = []certmanagerv1.CertificateCondition{{Type: certmanagerv1.CertificateConditionReady, ObservedGeneration: 3}}
	if _, err := Transform(certificate); err != nil {
		t.Fatal(err)
	}
	if c := certificate.Status.Conditions; certificate.Generation != 4 || len(c) != 1 || c[0].ObservedGeneration != 3 {
		t.Errorf("generation %d, conditions %+v", certificate.Generation, c)
	}
}
