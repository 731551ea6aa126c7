package keyrotation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
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
		want JobOutcome
	}{
		"none":                       {want: JobOutcome{Phase: JobAbsent}},
		"running":                    {job: job(""), want: JobOutcome{Name: "job", Phase: JobRunning}},
		"complete":                   {job: job(batchv1.JobComplete), want: JobOutcome{Name: "job", Phase: JobComplete}},
		"complete, but a stranger's": {job: stranger, want: JobOutcome{Name: "job", Phase: JobForeign}},
		"complete, but nobody's":     {job: alone, want: JobOutcome{Name: "job", Phase: JobForeign}},
		"failed with a word":         {job: job(batchv1.JobFailed), pods: []corev1.Pod{pod("", 1, `{"reason":"StaleRows","message":"3 rows"}`)}, want: JobOutcome{Name: "job", Phase: JobFailed, Reason: "StaleRows", Message: "3 rows"}},
		"superseded outweighs": {job: job(batchv1.JobFailed), pods: []corev1.Pod{
			pod("", config.ExitSuperseded, `{"reason":"Superseded","message":"by 4"}`), pod("", 1, `{"reason":"Failed","message":"x"}`),
		}, want: JobOutcome{Name: "job", Phase: JobFailed, Reason: "Superseded", Message: "by 4"}},
		"a pod of another":  {job: job(batchv1.JobFailed), pods: []corev1.Pod{forged}, want: JobOutcome{Name: "job", Phase: JobFailed, Reason: "", Message: "Job job failed: no pod of it says why; see the logs of its pods"}},
		"the pods are gone": {job: spent, want: JobOutcome{Name: "job", Phase: JobFailed, Message: "Job job failed: Job has reached the specified backoff limit; see the logs of its pods"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, Outcome(tc.job, "a-uid", tc.pods)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSumProgress(t *testing.T) {
	t.Parallel()
	seconds := func(n int64) *int64 { return &n }
	for name, tc := range map[string]struct {
		data map[string]string
		want *v1alpha1.RotationProgress
	}{
		"nothing reported":   {data: nil, want: nil},
		"another Job's":      {data: map[string]string{"shard-0": `{"job":"old","notesTotal":5}`}, want: nil},
		"not JSON":           {data: map[string]string{"shard-0": `boo`}, want: nil},
		"a shard too many":   {data: map[string]string{"shard-2": `{"job":"job","notesTotal":5}`}, want: nil},
		"summed":             {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":1,"conflicts":4}`, "shard-1": `{"job":"job","notesDone":0,"notesTotal":10,"notesPerSecond":2,"conflicts":5}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 20, Percent: 25, NotesPerSecond: 3, SecondsLeft: seconds(5), Conflicts: 9}},
		"slow":               {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":0.25}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 10, Percent: 50, SecondsLeft: seconds(20)}},
		"stopped":            {data: map[string]string{"shard-0": `{"job":"job","notesDone":5,"notesTotal":10,"notesPerSecond":1e-300}`}, want: &v1alpha1.RotationProgress{NotesDone: 5, NotesTotal: 10, Percent: 50}},
		"more done than all": {data: map[string]string{"shard-0": `{"job":"job","notesDone":50,"notesTotal":10}`}, want: &v1alpha1.RotationProgress{NotesDone: 10, NotesTotal: 10, Percent: 100, SecondsLeft: seconds(0)}},
		"negative":           {data: map[string]string{"shard-0": `{"job":"job","notesDone":-5,"notesTotal":-10,"notesPerSecond":-1,"conflicts":-1}`}, want: &v1alpha1.RotationProgress{SecondsLeft: seconds(0)}},
		"enough to overflow": {data: map[string]string{"shard-0": `{"job":"job","notesDone":1,"notesTotal":9223372036854775807,"conflicts":9223372036854775807}`, "shard-1": `{"job":"job","notesTotal":9223372036854775807,"conflicts":9223372036854775807}`}, want: &v1alpha1.RotationProgress{NotesDone: 1, NotesTotal: 2 * maxNotes, Conflicts: 2 * maxNotes}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, sumProgress(tc.data, "job", 2)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
