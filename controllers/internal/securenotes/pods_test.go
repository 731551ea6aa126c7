package securenotes

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

func pod(age time.Duration, changes ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p" + age.String(), CreationTimestamp: metav1.NewTime(now.Add(-age))}}
	for _, change := range changes {
		change(&p)
	}
	return p
}

func answers(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	migrated(p)
}

func migrated(p *corev1.Pod) {
	p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
		Name: operand.MigrateContainer, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}},
		LastTerminationState: said("DatabaseUnreachable"),
	}}
}

func said(reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: `{"reason":"` + reason + `","message":"words"}`}}
}

func migrateFails(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: operand.MigrateContainer, LastTerminationState: said(reason),
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		}}
	}
}

func serveFails(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		migrated(p)
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: operand.APIContainer, LastTerminationState: said(reason),
			State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		}}
	}
}

func unschedulable(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "no room"}}
}

func going(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: now} }

func TestDatabaseFinding(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pods   []corev1.Pod
		status metav1.ConditionStatus
		reason string
	}{
		"no pod":                             {status: metav1.ConditionUnknown, reason: v1alpha1.ReasonProgressing},
		"a ready pod":                        {pods: []corev1.Pod{pod(time.Minute, answers)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonReady},
		"migrate cannot connect":             {pods: []corev1.Pod{pod(time.Minute, migrateFails("DatabaseUnreachable"))}, status: metav1.ConditionFalse, reason: "DatabaseUnreachable"},
		"a new pod fails, an old one serves": {pods: []corev1.Pod{pod(time.Hour, answers), pod(time.Minute, migrateFails("DatabaseMismatch"))}, status: metav1.ConditionFalse, reason: "DatabaseMismatch"},
		"a migration that succeeded late":    {pods: []corev1.Pod{pod(time.Minute, migrated)}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonNotReady},
		"serve finds another key":            {pods: []corev1.Pod{pod(time.Minute, serveFails("KeyMismatch"))}, status: metav1.ConditionFalse, reason: "KeyMismatch"},
		"a fault of Vault":                   {pods: []corev1.Pod{pod(time.Minute, migrateFails("VaultSealed"))}, status: metav1.ConditionUnknown, reason: v1alpha1.ReasonProgressing},
		"the database is empty":              {pods: []corev1.Pod{pod(time.Minute, migrateFails("DatabaseLost"))}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonDatabaseLost},
		"lost while the pod serves":          {pods: []corev1.Pod{pod(time.Minute, serveFails("DatabaseLost"))}, status: metav1.ConditionFalse, reason: v1alpha1.ReasonDatabaseLost},
		"a restore has not finished":         {pods: []corev1.Pod{pod(time.Minute, migrateFails(config.ReasonDatabaseRestoring))}, status: metav1.ConditionFalse, reason: "DatabaseRestoring"},
		"a terminating pod":                  {pods: []corev1.Pod{pod(time.Minute, migrateFails("DatabaseMismatch"), going), pod(time.Hour, answers)}, status: metav1.ConditionTrue, reason: v1alpha1.ReasonReady},
	} {
		t.Run(name, func(t *testing.T) {
			got := databaseFinding(object(), readPods(tc.pods, cause.Lookup{}, now))
			if got.status != tc.status || got.reason != tc.reason {
				t.Errorf("got %+v, want %s %s", got, tc.status, tc.reason)
			}
			if got.status != metav1.ConditionTrue && !strings.Contains(got.message, "PersistentVolumeClaim notes-data") {
				t.Errorf("the message does not name the database: %s", got.message)
			}
		})
	}
}

// TestUnreadyPodsRequeue: the operator watches neither events nor the answers of a pod, so
// an unready pod causes another pass, also if another pod is ready.
func TestUnreadyPodsRequeue(t *testing.T) {
	t.Parallel()
	young := pod(time.Second, serving)
	for name, tc := range map[string]struct {
		pods []corev1.Pod
		want bool
	}{
		"none":                        {want: true},
		"all are ready":               {pods: []corev1.Pod{pod(time.Hour, answers)}, want: false},
		"a new one beside an old one": {pods: []corev1.Pod{pod(time.Hour, answers), young}, want: true},
		"a terminating pod":           {pods: []corev1.Pod{pod(time.Hour, answers), pod(time.Minute, going)}, want: false},
	} {
		if got := readPods(tc.pods, cause.Lookup{}, now).unready; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestWorkloadFindingTellsTheTrouble(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pod          corev1.Pod
		reason, want string
	}{
		"the service reports it":   {pod: pod(time.Minute, serveFails("VaultDenied")), reason: "VaultDenied", want: "words"},
		"the scheduler reports it": {pod: pod(time.Minute, unschedulable), reason: v1alpha1.ReasonUnschedulable, want: "no room"},
		"the kubelet reports it": {pod: pod(time.Minute, func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
		}), reason: v1alpha1.ReasonImagePullFailed, want: "ImagePullBackOff"},
	} {
		t.Run(name, func(t *testing.T) {
			got := workloadFinding(healthy(), readPods([]corev1.Pod{tc.pod}, cause.Lookup{}, now))
			if got.reason != tc.reason || !strings.Contains(got.message, tc.want) {
				t.Errorf("got %+v, want %s with %q", got, tc.reason, tc.want)
			}
		})
	}
}

// TestBlockedUpdate: the message counts available pods of the previous configuration, so that an
// update that a quota blocks does not read as an outage. It says how to retry at once.
func TestBlockedUpdate(t *testing.T) {
	t.Parallel()
	const again = ". Kubernetes tries again within 15 minutes, or at once after `kubectl rollout restart deployment notes`"
	for name, tc := range map[string]struct {
		replicas, updated, available int32
		refused, want, not           string
	}{
		"a quota blocks an update":   {replicas: 2, available: 2, refused: "exceeded quota: small", want: "0 of 2 replicas of the current configuration are available, and 2 of the previous configuration still are; an update needs quota for one more pod: ", not: "to stop"},
		"an update is refused":       {replicas: 2, available: 2, refused: "violates PodSecurity", want: "0 of 2 replicas of the current configuration are available, and 2 of the previous configuration still are: ", not: "quota for one more"},
		"a quota blocks a replica":   {replicas: 1, updated: 1, available: 1, refused: "exceeded quota: small", want: "1 of 2 replicas of the current configuration are available: ", not: "previous"},
		"nothing is available":       {refused: "exceeded quota: small", want: "0 of 2 replicas of the current configuration are available: ", not: "previous"},
		"an update is in progress":   {replicas: 3, updated: 1, available: 2, want: "0 of 2 replicas of the current configuration are available, and 2 of the previous configuration still are", not: "Kubernetes tries"},
		"fewer are wanted":           {replicas: 3, updated: 3, available: 3, want: "2 of 2 replicas of the current configuration are available, and pods that are no longer needed still run: 1", not: "Kubernetes tries"},
		"an old pod does not stop":   {replicas: 3, updated: 2, want: "0 of 2 replicas of the current configuration are available, and pods of the previous configuration still run: 1", not: "Kubernetes tries"},
		"the last pods are stopping": {replicas: 3, updated: 2, available: 3, want: "2 of 2 replicas of the current configuration are available, and 1 of the previous configuration still is", not: "Kubernetes tries"},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			s.sn.Spec.Replicas = new(int32(2))
			s.sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"}}}
			if s.deployment = refused(tc.refused); tc.refused == "" {
				s.deployment.Status.Conditions = nil
			}
			s.deployment.Status.Replicas, s.deployment.Status.UpdatedReplicas, s.deployment.Status.AvailableReplicas = tc.replicas, tc.updated, tc.available
			got := workloadFinding(s, podReport{}).message
			if !strings.HasPrefix(got, tc.want) || strings.Contains(got, tc.not) || strings.HasSuffix(got, again) != (tc.refused != "") {
				t.Errorf("got %q, want prefix %q, without %q, and suffix %q only if refused: %q", got, tc.want, tc.not, again, tc.refused)
			}
		})
	}
}

// TestPodsWaitForTheCertificate: a pod that cannot mount the Secret of cert-manager has no fault of
// its own. The kubelet's event stays after the Secret exists.
func TestPodsWaitForTheCertificate(t *testing.T) {
	t.Parallel()
	missing := func(secret string) podReport {
		return podReport{unready: true, cause: cause.Cause{Reason: v1alpha1.ReasonPodNotStarted, Next: "next",
			Message: `pod notes-1 does not start: MountVolume.SetUp failed for volume "tls" : secret "` + secret + `" not found`}}
	}
	for name, tc := range map[string]struct {
		report       podReport
		certificate  finding
		reason, want string
	}{
		"not issued": {report: missing("notes-securenotes-certificate"), certificate: bad(v1alpha1.ReasonIssuing, "x"), reason: v1alpha1.ReasonProgressing,
			want: "pods wait for Secret notes-securenotes-certificate, which cert-manager writes: see the condition CertificateReady"},
		"issued meanwhile": {report: missing("notes-securenotes-certificate"), certificate: good(v1alpha1.ReasonReady, "x"), reason: v1alpha1.ReasonProgressing,
			want: "Secret notes-securenotes-certificate exists now: the kubelet tries again within about two minutes"},
		"another Secret": {report: missing("other"), certificate: bad(v1alpha1.ReasonIssuing, "x"), reason: v1alpha1.ReasonPodNotStarted, want: `secret "other" not found: next`},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			s.sn.Spec.TLS = v1alpha1.TLS{CertManager: &v1alpha1.CertManager{}}
			s.env.CertificateSecret, s.certificateFinding = "notes-securenotes-certificate", tc.certificate
			got := workloadFinding(s, tc.report)
			if got.reason != tc.reason || !strings.HasSuffix(got.message, tc.want) {
				t.Errorf("got %+v, want %s and suffix %q", got, tc.reason, tc.want)
			}
		})
	}
}

// TestDatabaseNextStep: a condition does not add a next step to that of the service.
func TestDatabaseNextStep(t *testing.T) {
	t.Parallel()
	sn := object()
	sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"}}}
	for name, tc := range map[string]struct{ reason, message, want string }{
		"no answer":        {reason: config.ReasonDatabaseUnreachable, message: "connection refused", want: ": check the host and the port in the Secret, and that the pods can reach them"},
		"too many clients": {reason: config.ReasonDatabaseRefused, message: "too many connections (SQLSTATE 53300): raise max_connections", want: ""},
		"no right":         {reason: config.ReasonDatabasePermissionDenied, message: "permission denied for schema public (SQLSTATE 42501): run GRANT", want: ""},
		"wrong password":   {reason: config.ReasonDatabaseAuthenticationFailed, message: "password authentication failed (SQLSTATE 28P01): check the user and the password that the service logs in with", want: ""},
		"no LOGIN":         {reason: config.ReasonDatabaseAuthenticationFailed, message: "not permitted to log in (SQLSTATE 28000): run ALTER ROLE", want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := databaseNextStep(sn, &config.Termination{Reason: tc.reason, Message: tc.message}); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
