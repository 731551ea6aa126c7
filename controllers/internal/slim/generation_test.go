package slim

import (
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
)

// TestCertificateKeepsItsGeneration: without the generation, cert-manager's result for an earlier
// spec would count for the current one.
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
