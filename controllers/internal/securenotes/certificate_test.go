package securenotes

import (
	"testing"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// TestIssuerFinding checks the finding for each status of an issuer. An empty message stands for a
// ready one.
func TestIssuerFinding(t *testing.T) {
	t.Parallel()
	status := func(is cmmeta.ConditionStatus, message string) *certmanagerv1.IssuerStatus {
		return &certmanagerv1.IssuerStatus{Conditions: []certmanagerv1.IssuerCondition{
			{Type: "Other", Status: cmmeta.ConditionFalse, Message: "other"},
			{Type: certmanagerv1.IssuerConditionReady, Status: is, Message: message},
		}}
	}
	for name, tc := range map[string]struct {
		kind   string
		status *certmanagerv1.IssuerStatus
		want   string
	}{
		"ready": {kind: certmanagerv1.IssuerKind, status: status(cmmeta.ConditionTrue, "fine"), want: ""},
		"no status": {kind: certmanagerv1.IssuerKind, status: &certmanagerv1.IssuerStatus{},
			want: "no controller has processed Issuer denier yet: check whether cert-manager runs, and whether it supports this kind of issuer"},
		"its own words": {kind: certmanagerv1.IssuerKind, status: status(cmmeta.ConditionFalse, "Vault is\nsealed"),
			want: "Issuer denier is not ready: Vault is sealed: see `kubectl describe issuer denier -n demo`"},
		"no words": {kind: certmanagerv1.IssuerKind, status: status(cmmeta.ConditionFalse, ""),
			want: "Issuer denier is not ready: see `kubectl describe issuer denier -n demo`"},
		"of the cluster": {kind: certmanagerv1.ClusterIssuerKind, status: status(cmmeta.ConditionUnknown, "x"),
			want: "ClusterIssuer denier is not ready: x: see `kubectl describe clusterissuer denier`"},
	} {
		t.Run(name, func(t *testing.T) {
			got := issuerFinding(tc.kind, "denier", "demo", tc.status)
			if got.message != tc.want || got.known() != (tc.want != "") || got.known() && got.reason != v1alpha1.ReasonIssuerNotReady {
				t.Errorf("got %+v, want %q", got, tc.want)
			}
		})
	}
}
