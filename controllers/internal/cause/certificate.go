package cause

import (
	"fmt"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// requestPatience is how long an issuer may take before its own words are shown.
const requestPatience = 30 * time.Second

// RequestName is the name of the CertificateRequest for the next revision of a Certificate, as
// cert-manager makes it. Ours are short enough for it to be whole.
func RequestName(c *certmanagerv1.Certificate) string {
	next := 1
	if c.Status.Revision != nil {
		next = *c.Status.Revision + 1
	}
	return fmt.Sprintf("%s-%d", c.Name, next)
}

// OfCertificate returns why a certificate is not issued. request is the CertificateRequest for it;
// nil: there is none, or none was found.
func OfCertificate(c *certmanagerv1.Certificate, request *certmanagerv1.CertificateRequest, now time.Time) Cause {
	for _, condition := range c.Status.Conditions {
		// The Certificate has the words of the request that failed last.
		if condition.Type == certmanagerv1.CertificateConditionIssuing && condition.Status == cmmeta.ConditionFalse && condition.Message != "" {
			return issuanceFailed(c, fmt.Sprintf("Certificate %s: %s: %s", c.Name, Words(condition.Reason), Words(condition.Message)))
		}
	}
	if request == nil {
		return Cause{}
	}
	about, approved := "CertificateRequest "+request.Name, false
	var ready *certmanagerv1.CertificateRequestCondition
	for i, condition := range request.Status.Conditions {
		switch {
		case condition.Type == certmanagerv1.CertificateRequestConditionReady:
			ready = &request.Status.Conditions[i]
		case condition.Status != cmmeta.ConditionTrue:
		case condition.Type == certmanagerv1.CertificateRequestConditionApproved:
			approved = true
		case condition.Type == certmanagerv1.CertificateRequestConditionDenied || condition.Type == certmanagerv1.CertificateRequestConditionInvalidRequest:
			return issuanceFailed(c, fmt.Sprintf("%s: %s: %s", about, condition.Type, Words(condition.Message)))
		}
	}
	switch late := now.Sub(request.CreationTimestamp.Time) >= requestPatience; {
	case ready != nil && ready.Reason == certmanagerv1.CertificateRequestReasonFailed:
		return issuanceFailed(c, about+": "+Words(ready.Message))
	case late && !approved:
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: about + " is not approved",
			Next: "approve it, or let cert-manager's approver, or the one that takes its place, approve requests of this namespace",
		}
	case late && ready != nil && ready.Status != cmmeta.ConditionTrue && ready.Message != "":
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: about + " is not issued yet: " + Words(ready.Message),
			Next: "see the issuer and, with ACME, `kubectl get orders,challenges`",
		}
	default:
		return Cause{}
	}
}

func issuanceFailed(c *certmanagerv1.Certificate, message string) Cause {
	return Cause{
		Reason: v1alpha1.ReasonIssuanceFailed, Message: message,
		Next: "put that right; cert-manager tries again after an hour or more, or at once after `cmctl renew " + c.Name + "`",
	}
}
