package securenotes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/served"
)

const (
	// longestWarning is how long before its end a certificate from a Secret is warned of; one that
	// lives short is warned of when a sixth of its life is left.
	longestWarning = 14 * 24 * time.Hour
	// servedHolds is how long it is believed what a pod serves, and servedRetry, how long where it
	// soon ends, lacks a hostname or could not be read.
	servedHolds = time.Hour
	servedRetry = 5 * time.Minute
)

// servedCertificate is what a pod of an object serves.
type servedCertificate struct {
	// generation of the spec that names the Secret.
	generation int64
	until      time.Time
	// certificate is zero where the pod could not be asked.
	certificate served.Certificate
}

// fromSecret adds to what is said of a certificate from a Secret how long it is valid and whether
// it names the hostnames, as a pod serves it: the operator may not read the Secret.
func (r *Reconciler) fromSecret(ctx context.Context, s *scope, pods []corev1.Pod, f finding) finding {
	if f.status != metav1.ConditionTrue {
		return f
	}
	known := r.served.get(s.sn.UID)
	if known.generation != s.sn.Generation || !s.now.Before(known.until) {
		known = servedCertificate{generation: s.sn.Generation, certificate: r.look(ctx, pods)}
		hold := servedHolds
		left := known.certificate.NotAfter.Sub(s.now)
		if left < warning(known.certificate)+servedHolds || len(unnamed(s.sn, known.certificate)) > 0 {
			hold = servedRetry
		}
		known.until = s.now.Add(jitter.Longer(hold))
		r.served.put(s.sn.UID, known)
	}
	s.wake(known.until.Sub(s.now))
	if known.certificate.NotAfter.IsZero() {
		f.message += "; how long it is valid is not known, because the operator cannot reach port 8443 of a pod"
		return f
	}
	s.notAfter = new(metav1.NewTime(known.certificate.NotAfter))
	if hosts := unnamed(s.sn, known.certificate); len(hosts) > 0 && s.notAfter.After(s.now) {
		return nameMismatch(s.sn, known.certificate.DNSNames, hosts)
	}
	return s.lasting(f, warning(known.certificate), "put a renewed one into Secret "+s.sn.Spec.TLS.SecretRef.Name+", which the service reads without a restart")
}

// look asks the first pod that answers.
func (r *Reconciler) look(ctx context.Context, pods []corev1.Pod) served.Certificate {
	for i := range pods {
		if r.Served == nil || pods[i].DeletionTimestamp != nil || !isReady(&pods[i]) {
			continue
		}
		if certificate, err := r.Served(ctx, &pods[i]); err == nil {
			return certificate
		}
		break // one pod that is slow to answer delays a pass, not each of them
	}
	return served.Certificate{}
}

func warning(c served.Certificate) time.Duration {
	return min(longestWarning, c.NotAfter.Sub(c.NotBefore)/6)
}

// fromIssuer adds to what is said of an issued certificate whether its renewal is overdue: half of
// the time that was left for it has passed.
func (s *scope) fromIssuer(f finding) finding {
	if s.notAfter == nil {
		return f
	}
	return s.lasting(f, operand.RenewBefore(s.sn)/2, "see why cert-manager does not renew Certificate "+operand.CertificateName(s.sn.Name))
}

// lasting tells of a certificate that has ended, or soon does, with the next step. A certificate
// that soon ends is still good.
func (s *scope) lasting(f finding, before time.Duration, next string) finding {
	end := s.notAfter.UTC().Format(time.RFC3339)
	switch left := s.notAfter.Sub(s.now); {
	case left <= 0:
		return bad(v1alpha1.ReasonCertificateExpired, fmt.Sprintf("the certificate has ended at %s, and clients refuse it: %s", end, next))
	case left <= before:
		s.wake(left)
		return good(v1alpha1.ReasonCertificateExpiring, fmt.Sprintf("the certificate ends at %s: %s", end, next))
	default:
		s.wake(left - before)
		return f
	}
}
