package securenotes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/served"
)

// TestCertificateFromSecret: the condition reports the end of a Secret's certificate as a pod
// serves it, before and after it comes.
func TestCertificateFromSecret(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		life, left time.Duration
		err        error
		status     metav1.ConditionStatus
		reason     string
		message    string
		warned     bool
	}{
		"long-lived":           {life: 90 * 24 * time.Hour, left: 60 * 24 * time.Hour, status: metav1.ConditionTrue, reason: v1alpha1.ReasonFromSecret, message: "Secret tls"},
		"expires soon":         {life: 90 * 24 * time.Hour, left: 13 * 24 * time.Hour, status: metav1.ConditionTrue, reason: v1alpha1.ReasonCertificateExpiring, message: "store a renewed one in Secret tls", warned: true},
		"short-lived":          {life: 24 * time.Hour, left: 5 * time.Hour, status: metav1.ConditionTrue, reason: v1alpha1.ReasonFromSecret, message: "Secret tls"},
		"short-lived, expires": {life: 24 * time.Hour, left: 3 * time.Hour, status: metav1.ConditionTrue, reason: v1alpha1.ReasonCertificateExpiring, message: "store a renewed one in Secret tls", warned: true},
		"expired":              {life: 90 * 24 * time.Hour, left: -time.Second, status: metav1.ConditionFalse, reason: v1alpha1.ReasonCertificateExpired, message: "store a renewed one in Secret tls", warned: true},
		"unreachable pod":      {err: errors.New("timeout"), status: metav1.ConditionTrue, reason: v1alpha1.ReasonFromSecret, message: "cannot reach port 8443"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(time.Minute, answers)
			p.Namespace, p.Labels = "demo", operand.Selector(object())
			r := reconciler(t, &fakeVault{}, &p)
			asked := 0
			end := now.Add(tc.left)
			r.Served = func(context.Context, *corev1.Pod) (served.Certificate, error) {
				asked++
				return served.Certificate{NotBefore: end.Add(-tc.life), NotAfter: end}, tc.err
			}
			var status v1alpha1.SecureNotesStatus
			for range 2 {
				s := healthy(func(s *scope) {
					s.deployment, s.deployed, s.certificateFinding = &appsv1.Deployment{}, true, finding{}
				})
				if err := r.pods(t.Context(), s); err != nil {
					t.Fatal(err)
				}
				status = computeStatus(s)
				r.announce(t.Context(), s, status.Conditions)
				if s.requeue.after == 0 || s.requeue.after > 2*servedHolds {
					t.Errorf("requeued after %s", s.requeue.after)
				}
			}
			if asked != 1 {
				t.Errorf("the pod was asked %d times in two passes", asked)
			}
			got := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionCertificateReady)
			if got.Status != tc.status || got.Reason != tc.reason || !strings.Contains(got.Message, tc.message) {
				t.Errorf("got %+v, want %s %s with %q", got, tc.status, tc.reason, tc.message)
			}
			if shown := status.Certificate; tc.err == nil && (shown == nil || !shown.NotAfter.Time.Equal(end)) || tc.err != nil && shown != nil {
				t.Errorf("status.certificate: %+v", shown)
			}
			recorder := r.Recorder.(*events.FakeRecorder)
			close(recorder.Events)
			warned := false
			for event := range recorder.Events {
				warned = warned || strings.HasPrefix(event, "Warning "+tc.reason)
			}
			if warned != tc.warned {
				t.Errorf("a Warning event: %v, want %v", warned, tc.warned)
			}
		})
	}
}

// TestCertificateOfIssuer: the condition reports an overdue renewal before the certificate ends.
func TestCertificateOfIssuer(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		left   time.Duration
		reason string
	}{
		"not yet due": {left: 31 * 24 * time.Hour, reason: v1alpha1.ReasonReady},
		"renewal due": {left: 29 * 24 * time.Hour, reason: v1alpha1.ReasonReady},
		"overdue":     {left: 14 * 24 * time.Hour, reason: v1alpha1.ReasonCertificateExpiring},
		"expired":     {reason: v1alpha1.ReasonCertificateExpired},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy(func(s *scope) {
				s.sn.Spec.TLS = v1alpha1.TLS{CertManager: &v1alpha1.CertManager{IssuerRef: v1alpha1.IssuerReference{Name: "ca"}}}
				s.notAfter = new(metav1.NewTime(now.Add(tc.left)))
			})
			if got := certificateReady(s); got.reason != tc.reason {
				t.Errorf("got %+v, want reason %s", got, tc.reason)
			}
		})
	}
}

// TestCertificateNamesTheHostnames: clients reject a user's certificate without the hostname, so
// the service is not ready, and the message lists the names.
func TestCertificateNamesTheHostnames(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		hostnames, named []string
		reason, want     string
	}{
		"it names all":         {hostnames: []string{"a.example.com", "b.example.com"}, named: []string{"b.example.com", "A.example.com"}, reason: v1alpha1.ReasonFromSecret, want: "Secret tls"},
		"a wildcard":           {hostnames: []string{"a.example.com"}, named: []string{"*.example.com"}, reason: v1alpha1.ReasonFromSecret, want: "Secret tls"},
		"no hostnames":         {named: []string{"other.example.com"}, reason: v1alpha1.ReasonFromSecret, want: "Secret tls"},
		"another name":         {hostnames: []string{"a.example.com"}, named: []string{"other.example.com"}, reason: "CertificateNameMismatch", want: "the certificate of Secret tls names other.example.com, not a.example.com: store one that names it in the Secret, or correct spec.hostnames"},
		"one of two":           {hostnames: []string{"a.example.com", "b.example.com"}, named: []string{"a.example.com"}, reason: "CertificateNameMismatch", want: "names a.example.com, not b.example.com"},
		"a wildcard too short": {hostnames: []string{"a.b.example.com"}, named: []string{"*.example.com"}, reason: "CertificateNameMismatch", want: "names *.example.com, not a.b.example.com"},
		"no name at all":       {hostnames: []string{"a.example.com"}, reason: "CertificateNameMismatch", want: "the certificate of Secret tls has no DNS name, and lacks a.example.com"},
		"many names":           {hostnames: []string{"a.example.com"}, named: strings.Split("1.x,2.x,3.x,4.x,5.x,6.x", ","), reason: "CertificateNameMismatch", want: "names 1.x, 2.x, 3.x, 4.x, 5.x and 1 more, not a.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			p := pod(time.Minute, answers)
			p.Namespace, p.Labels = "demo", operand.Selector(object())
			r := reconciler(t, &fakeVault{}, &p)
			r.Served = func(context.Context, *corev1.Pod) (served.Certificate, error) {
				return served.Certificate{NotBefore: now, NotAfter: now.Add(90 * 24 * time.Hour), DNSNames: tc.named}, nil
			}
			s := healthy(func(s *scope) {
				s.deployment, s.deployed, s.certificateFinding = &appsv1.Deployment{}, true, finding{}
				s.sn.Spec.Hostnames = tc.hostnames
			})
			if err := r.pods(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			got := certificateReady(s)
			if got.reason != tc.reason || !strings.Contains(got.message, tc.want) {
				t.Errorf("got %+v, want %s with %q", got, tc.reason, tc.want)
			}
			wrong := tc.reason != v1alpha1.ReasonFromSecret
			if (got.status == metav1.ConditionFalse) != wrong {
				t.Errorf("got status %s, want False only if it is wrong: %t", got.status, wrong)
			}
			if wrong && s.requeue.after > 2*servedRetry {
				t.Errorf("requeued after %s", s.requeue.after)
			}
		})
	}
}
