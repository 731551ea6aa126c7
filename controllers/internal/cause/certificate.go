package cause

import (
	"fmt"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// requestGrace is how long cert-manager or an issuer may take for its next step.
const requestGrace = 30 * time.Second

// RequestName returns the name that cert-manager gives the CertificateRequest for the next revision
// of a Certificate. It shortens long names, but those of the operator's Certificates are short
// enough.
func RequestName(c *certmanagerv1.Certificate) string {
	next := 1
	if c.Status.Revision != nil {
		next = *c.Status.Revision + 1
	}
	return fmt.Sprintf("%s-%d", c.Name, next)
}

// OfCertificate returns why a certificate is not issued. request is its CertificateRequest, or nil
// if none exists. asked is when the SecureNotes started to wait for the certificate.
func OfCertificate(c *certmanagerv1.Certificate, request *certmanagerv1.CertificateRequest, asked, now time.Time) Cause {
	for _, condition := range c.Status.Conditions {
		// The Certificate repeats the message of the request that failed last.
		if condition.Type == certmanagerv1.CertificateConditionIssuing && condition.Status == cmmeta.ConditionFalse && condition.Message != "" {
			return issuanceFailed(c, fmt.Sprintf("Certificate %s: %s: %s", c.Name, Sanitize(condition.Reason), Sanitize(condition.Message)))
		}
	}
	if request == nil {
		return notRequested(c, asked, now)
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
			return issuanceFailed(c, fmt.Sprintf("%s: %s: %s", about, condition.Type, Sanitize(condition.Message)))
		}
	}
	switch late := now.Sub(request.CreationTimestamp.Time) >= requestGrace; {
	case ready != nil && ready.Reason == certmanagerv1.CertificateRequestReasonFailed:
		return issuanceFailed(c, about+": "+Sanitize(ready.Message))
	case late && !approved:
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: about + " is not approved",
			Next: "approve it, or configure the approver of cert-manager, or the one that replaces it, to approve requests of this namespace",
		}
	case late && ready == nil:
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: "no controller of the issuer has answered " + about,
			Next: "check whether the controller of the issuer runs, and whether it handles spec.tls.certManager.issuerRef",
		}
	case late && ready.Status != cmmeta.ConditionTrue:
		message := about + " is not issued yet"
		if ready.Message != "" {
			message += ": " + Sanitize(ready.Message)
		}
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: message,
			Next: "see the issuer, and with ACME also `kubectl get orders,challenges`",
		}
	case late && ready.LastTransitionTime != nil && now.Sub(ready.LastTransitionTime.Time) >= requestGrace:
		return Cause{
			Reason: v1alpha1.ReasonIssuancePending, Message: about + " is issued, but cert-manager has not stored the certificate in its Secret",
			Next: checkSecrets,
		}
	default:
		return Cause{}
	}
}

// checkSecrets is what to do if cert-manager may be unable to write Secrets, which it reports only
// in its log.
const checkSecrets = "check whether cert-manager runs, whether a ResourceQuota on secrets refuses the Secret that it needs (`kubectl get resourcequota`), and the log of cert-manager"

// notRequested returns a cause if no CertificateRequest exists after the grace period. The period
// starts when the SecureNotes started to wait or cert-manager started to issue, whichever is later.
func notRequested(c *certmanagerv1.Certificate, asked, now time.Time) Cause {
	since := c.CreationTimestamp.Time
	if asked.After(since) {
		since = asked
	}
	for _, condition := range c.Status.Conditions {
		if condition.Type == certmanagerv1.CertificateConditionIssuing && condition.LastTransitionTime != nil && condition.LastTransitionTime.After(since) {
			since = condition.LastTransitionTime.Time
		}
	}
	if now.Sub(since) < requestGrace {
		return Cause{}
	}
	return Cause{Reason: v1alpha1.ReasonIssuancePending, Message: "cert-manager has created no CertificateRequest " + RequestName(c), Next: checkSecrets}
}

func issuanceFailed(c *certmanagerv1.Certificate, message string) Cause {
	return Cause{
		Reason: v1alpha1.ReasonIssuanceFailed, Message: message,
		Next: "correct the cause; cert-manager retries after an hour or more, or at once after `cmctl renew " + c.Name + "`",
	}
}
