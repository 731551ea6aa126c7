package securenotes

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestSecretFinding: the pods report what is wrong with a Secret that the operator may not read.
func TestSecretFinding(t *testing.T) {
	t.Parallel()
	ended := func(message string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			migrated(p)
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name:  operand.APIContainer,
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: message}},
			}}
		}
	}
	mismatch := ended(`{"reason":"CertificateInvalid","message":"TLS certificate: tls: private key does not match public key"}`)
	pending := func(p *corev1.Pod) { p.Status.Phase = corev1.PodPending }
	mount := func(words string) cause.Lookup {
		return cause.Lookup{Now: func() time.Time { return now }, Events: func(client.Object) []corev1.Event {
			return []corev1.Event{{Reason: "FailedMount", Message: words, LastTimestamp: metav1.NewTime(now)}}
		}}
	}
	for name, tc := range map[string]struct {
		pods   []corev1.Pod
		lookup cause.Lookup
		status metav1.ConditionStatus
		reason string
		want   string
	}{
		"no pod yet":    {lookup: cause.Lookup{}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonFromSecret, want: "must have tls.crt and tls.key"},
		"a pod answers": {pods: []corev1.Pod{pod(time.Minute, answers)}, lookup: cause.Lookup{}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonFromSecret, want: "Secret tls"},
		"the key does not match": {
			pods: []corev1.Pod{pod(time.Minute, mismatch)}, lookup: cause.Lookup{}, status: metav1.ConditionFalse, reason: "CertificateInvalid",
			want: "Secret tls: TLS certificate: tls: private key does not match public key: store a matching tls.crt and tls.key in it",
		},
		"the key does not match, an older pod answers": {
			pods: []corev1.Pod{pod(time.Hour, answers), pod(time.Minute, mismatch)}, lookup: cause.Lookup{}, status: metav1.ConditionFalse, reason: "CertificateInvalid", want: "Secret tls: ",
		},
		"another trouble of the service": {
			pods: []corev1.Pod{pod(time.Minute, serveFails("VaultDenied"))}, lookup: cause.Lookup{}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonFromSecret, want: "no pod uses the certificate of Secret tls yet",
		},
		"the Secret is absent": {
			pods: []corev1.Pod{pod(time.Minute, pending)}, lookup: mount(`MountVolume.SetUp failed for volume "tls" : secret "tls" not found`),
			status: metav1.ConditionFalse, reason: "CertificateInvalid", want: "Secret tls does not exist: create it, of type kubernetes.io/tls, with tls.crt and tls.key",
		},
		"another Secret is absent": {
			pods: []corev1.Pod{pod(time.Minute, pending)}, lookup: mount(`MountVolume.SetUp failed for volume "database" : secret "database" not found`),
			status: metav1.ConditionUnknown, reason: v1alpha1.ReasonFromSecret, want: "no pod uses the certificate of Secret tls yet",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := secretFinding(object(), readPods(tc.pods, tc.lookup, now))
			if got.status != tc.status || got.reason != tc.reason || !strings.Contains(got.message, tc.want) {
				t.Errorf("got %+v, want %s %s with %q", got, tc.status, tc.reason, tc.want)
			}
		})
	}
}
