package trustedjob

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/app/config"
)

func TestOutcome(t *testing.T) {
	t.Parallel()
	controller := true
	ref := func(uid string) []metav1.OwnerReference {
		return []metav1.OwnerReference{{UID: "a-uid", Controller: &controller, Kind: uid}}
	}
	job := func(kind batchv1.JobConditionType) *batchv1.Job {
		j := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: "job", UID: "job-uid", OwnerReferences: ref("x")}}
		if kind != "" {
			j.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
		}
		return j
	}
	pod := func(owner string, code int32, message string) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{OwnerReferences: []metav1.OwnerReference{{UID: "job-uid", Controller: &controller, Name: owner}}},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
				State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}},
			}}},
		}
	}
	stranger := job(batchv1.JobComplete)
	stranger.OwnerReferences[0].UID = "b-uid"
	alone := job(batchv1.JobComplete)
	alone.OwnerReferences = nil
	spent := job(batchv1.JobFailed)
	spent.Status.Conditions[0].Message = "Job has reached the specified\nbackoff limit"
	forged := pod("", 1, `{"reason":"StaleRows","message":"forged"}`)
	forged.OwnerReferences = nil

	for name, tc := range map[string]struct {
		job  *batchv1.Job
		pods []corev1.Pod
		want Outcome
	}{
		"none":    {want: Outcome{Phase: Absent}},
		"running": {job: job(""), want: Outcome{Name: "job", Phase: Running}},
		"running again": {job: job(""), pods: []corev1.Pod{pod("", 1, `{"reason":"DestinationDenied","message":"no such key"}`), pod("", 0, "")},
			want: Outcome{Name: "job", Phase: Running, LastFailure: "no such key"}},
		"complete":                   {job: job(batchv1.JobComplete), want: Outcome{Name: "job", Phase: Complete}},
		"complete, but a stranger's": {job: stranger, want: Outcome{Name: "job", Phase: Foreign}},
		"complete, but nobody's":     {job: alone, want: Outcome{Name: "job", Phase: Foreign}},
		"failed with a word":         {job: job(batchv1.JobFailed), pods: []corev1.Pod{pod("", 1, `{"reason":"StaleRows","message":"3 rows"}`)}, want: Outcome{Name: "job", Phase: Failed, Reason: "StaleRows", Message: "3 rows"}},
		"superseded outweighs": {job: job(batchv1.JobFailed), pods: []corev1.Pod{
			pod("", config.ExitSuperseded, `{"reason":"Superseded","message":"by 4"}`), pod("", 1, `{"reason":"Failed","message":"x"}`),
		}, want: Outcome{Name: "job", Phase: Failed, Reason: "Superseded", Message: "by 4"}},
		"a pod of another":  {job: job(batchv1.JobFailed), pods: []corev1.Pod{forged}, want: Outcome{Name: "job", Phase: Failed, Reason: "", Message: "Job job failed: no pod reported why; see the logs of its pods"}},
		"the pods are gone": {job: spent, want: Outcome{Name: "job", Phase: Failed, Message: "Job job failed: Job has reached the specified backoff limit; see the logs of its pods"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, outcomeOf(tc.job, "a-uid", tc.pods)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
