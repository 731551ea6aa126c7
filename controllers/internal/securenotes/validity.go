package securenotes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/served"
)

const (
	// maxExpiryWarning is how long before its end a certificate of a Secret is reported as
	// expiring. A shorter-lived one is reported when a sixth of its lifetime is left.
	maxExpiryWarning = 14 * 24 * time.Hour
	// servedHolds is how long a result of a pod counts. servedRetry applies to a certificate that
	// expires soon, lacks a hostname or could not be read.
	servedHolds = time.Hour
	servedRetry = 5 * time.Minute
)

// servedCertificate is the certificate that a pod of an object serves.
type servedCertificate struct {
	// generation is the generation of the spec that names the Secret.
	generation int64
	until      time.Time
	// certificate is zero if no pod could be asked.
	certificate served.Certificate
}

// readServed reads the certificate of spec.tls.secretRef from a pod that serves it, because the
// operator may not read Secrets. A result is kept for a while.
func (r *Reconciler) readServed(ctx context.Context, s *scope, pods []corev1.Pod) {
	known := r.served.get(s.sn.UID)
	if known.generation != s.sn.Generation || !s.now.Before(known.until) {
		known = servedCertificate{generation: s.sn.Generation, certificate: r.askPod(ctx, pods)}
		hold := servedHolds
		left := known.certificate.NotAfter.Sub(s.now)
		if left < expiryWarning(known.certificate)+servedHolds || len(uncoveredHostnames(s.sn, known.certificate)) > 0 {
			hold = servedRetry
		}
		known.until = s.now.Add(jittered(hold))
		r.served.put(s.sn.UID, known)
	}
	s.served = &known
	s.requeueAfter(known.until.Sub(s.now), "the next check of the certificate that the pods serve")
	if known.certificate.NotAfter.IsZero() {
		return
	}
	s.notAfter = new(metav1.NewTime(known.certificate.NotAfter))
	s.requeueForExpiry(expiryWarning(known.certificate))
}

// askPod returns the certificate of the first ready pod, or a zero one.
func (r *Reconciler) askPod(ctx context.Context, pods []corev1.Pod) served.Certificate {
	for i := range pods {
		if r.Served == nil || pods[i].DeletionTimestamp != nil || !isReady(&pods[i]) {
			continue
		}
		if certificate, err := r.Served(ctx, &pods[i]); err == nil {
			return certificate
		}
		break // one slow pod delays a pass; several would delay it too long
	}
	return served.Certificate{}
}

func expiryWarning(c served.Certificate) time.Duration {
	return min(maxExpiryWarning, c.NotAfter.Sub(c.NotBefore)/6)
}

// renewalOverdue is how long before its end an issued certificate is reported as expiring: half of
// the time for its renewal has passed by then.
func renewalOverdue(s *scope) time.Duration { return operand.RenewBefore(s.sn) / 2 }

// requeueForExpiry asks for a pass when the certificate is to be reported as expiring, and when it
// has expired.
func (s *scope) requeueForExpiry(warning time.Duration) {
	switch left := s.notAfter.Sub(s.now); {
	case left <= 0:
	case left <= warning:
		s.requeueAfter(left, "the end of the certificate")
	default:
		s.requeueAfter(left-warning, "the time for the renewal of the certificate")
	}
}

// expiry adds the end of the certificate to f if it has expired, or expires within warning. The
// condition of an expiring certificate stays True.
func (s *scope) expiry(f finding, warning time.Duration, next string) finding {
	end := s.notAfter.UTC().Format(time.RFC3339)
	switch left := s.notAfter.Sub(s.now); {
	case left <= 0:
		return bad(v1alpha1.ReasonCertificateExpired, fmt.Sprintf("the certificate expired at %s, and clients reject it: %s", end, next))
	case left <= warning:
		return good(v1alpha1.ReasonCertificateExpiring, fmt.Sprintf("the certificate expires at %s: %s", end, next))
	default:
		return f
	}
}
