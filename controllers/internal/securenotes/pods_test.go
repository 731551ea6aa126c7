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
	for name, tc := range map[string]struct {
		pods   []corev1.Pod
		status metav1.ConditionStatus
		reason string
	}{
		"no pod":                             {nil, metav1.ConditionUnknown, v1alpha1.ReasonProgressing},
		"a pod answers":                      {[]corev1.Pod{pod(time.Minute, answers)}, metav1.ConditionTrue, v1alpha1.ReasonReady},
		"migrate cannot connect":             {[]corev1.Pod{pod(time.Minute, migrateFails("DatabaseUnreachable"))}, metav1.ConditionFalse, "DatabaseUnreachable"},
		"the new pod cannot, the old serves": {[]corev1.Pod{pod(time.Hour, answers), pod(time.Minute, migrateFails("DatabaseMismatch"))}, metav1.ConditionFalse, "DatabaseMismatch"},
		"what failed before it went well":    {[]corev1.Pod{pod(time.Minute, migrated)}, metav1.ConditionUnknown, v1alpha1.ReasonNotReady},
		"serve finds another key":            {[]corev1.Pod{pod(time.Minute, serveFails("KeyMismatch"))}, metav1.ConditionFalse, "KeyMismatch"},
		"Vault is not the database":          {[]corev1.Pod{pod(time.Minute, migrateFails("VaultSealed"))}, metav1.ConditionUnknown, v1alpha1.ReasonProgressing},
		"the database is empty":              {[]corev1.Pod{pod(time.Minute, migrateFails("DatabaseLost"))}, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost},
		"it is lost while the pod serves":    {[]corev1.Pod{pod(time.Minute, serveFails("DatabaseLost"))}, metav1.ConditionFalse, v1alpha1.ReasonDatabaseLost},
		"a pod that is going says nothing":   {[]corev1.Pod{pod(time.Minute, migrateFails("DatabaseMismatch"), going), pod(time.Hour, answers)}, metav1.ConditionTrue, v1alpha1.ReasonReady},
	} {
		t.Run(name, func(t *testing.T) {
			got := databaseFinding(object(), readPods(tc.pods, cause.Look{}, now))
			if got.status != tc.status || got.reason != tc.reason {
				t.Errorf("%+v", got)
			}
			if got.status != metav1.ConditionTrue && !strings.Contains(got.message, "PersistentVolumeClaim notes-data") {
				t.Errorf("the message does not name the database: %s", got.message)
			}
		})
	}
}

// TestUnreadyPodsAreLookedAtAgain: neither events nor what a pod answers is watched, nor does a watch
// tell that a pod has had its time, also while another one answers.
func TestUnreadyPodsAreLookedAtAgain(t *testing.T) {
	young := pod(time.Second, serving)
	for name, tc := range map[string]struct {
		pods []corev1.Pod
		want bool
	}{
		"none":                        {nil, true},
		"all answer":                  {[]corev1.Pod{pod(time.Hour, answers)}, false},
		"a new one beside an old one": {[]corev1.Pod{pod(time.Hour, answers), young}, true},
		"one that is going":           {[]corev1.Pod{pod(time.Hour, answers), pod(time.Minute, going)}, false},
	} {
		if got := readPods(tc.pods, cause.Look{}, now).unready; got != tc.want {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
}

func TestWorkloadFindingTellsTheTrouble(t *testing.T) {
	for name, tc := range map[string]struct {
		pod          corev1.Pod
		reason, want string
	}{
		"the service's own words": {pod(time.Minute, serveFails("VaultDenied")), "VaultDenied", "words"},
		"the scheduler's":         {pod(time.Minute, unschedulable), v1alpha1.ReasonUnschedulable, "no room"},
		"the kubelet's": {pod(time.Minute, func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
		}), v1alpha1.ReasonImagePullFailed, "ImagePullBackOff"},
	} {
		t.Run(name, func(t *testing.T) {
			got := workloadFinding(healthy(), readPods([]corev1.Pod{tc.pod}, cause.Look{}, now))
			if got.reason != tc.reason || !strings.Contains(got.message, tc.want) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestDatabaseNextStep checks that a condition does not add its own advice to that of the service.
func TestDatabaseNextStep(t *testing.T) {
	sn := object()
	sn.Spec.Database = &v1alpha1.Database{Postgres: &v1alpha1.Postgres{URISecretRef: v1alpha1.SecretKeyReference{Name: "database", Key: "uri"}}}
	for name, tc := range map[string]struct{ reason, message, want string }{
		"no answer":        {config.ReasonDatabaseUnreachable, "connection refused", ": check the host and the port in the Secret, and that the pods can reach them"},
		"too many clients": {config.ReasonDatabaseRefused, "too many connections (SQLSTATE 53300): raise max_connections", ""},
		"no right":         {config.ReasonDatabasePermissionDenied, "permission denied for schema public (SQLSTATE 42501): run GRANT", ""},
		"wrong password":   {config.ReasonDatabaseAuthenticationFailed, "password authentication failed (SQLSTATE 28P01): check the user and the password that the service logs in with", ""},
		"no LOGIN":         {config.ReasonDatabaseAuthenticationFailed, "not permitted to log in (SQLSTATE 28000): run ALTER ROLE", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := databaseNextStep(sn, &config.Termination{Reason: tc.reason, Message: tc.message}); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
		})
	}
}
