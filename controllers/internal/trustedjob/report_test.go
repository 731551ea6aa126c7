package trustedjob

import (
	"fmt"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// TestReport: what counts is the message of a succeeded pod that the Job controls, and only if no
// other such pod says something else. It is also found if the cache does not have the pod yet.
func TestReport(t *testing.T) {
	t.Parallel()
	type said struct {
		owner, container, message string
		code                      int32
	}
	good := said{owner: "created", container: operand.JobContainer, message: "a report"}
	with := func(change func(*said)) said {
		other := good
		change(&other)
		return other
	}
	for name, tc := range map[string]struct {
		pods     []said
		uncached bool
		silent   bool // the outcome needs no report
		want     string
	}{
		"one pod":                    {pods: []said{good}, want: "a report"},
		"not cached yet":             {pods: []said{good}, uncached: true, want: "a report"},
		"none":                       {},
		"not needed":                 {pods: []said{good}, silent: true},
		"a failed one before":        {pods: []said{with(func(s *said) { s.code, s.message = 1, "an error" }), good}, want: "a report"},
		"a failed one alone":         {pods: []said{with(func(s *said) { s.code = 1 })}},
		"of another Job":             {pods: []said{with(func(s *said) { s.owner = "other" })}},
		"of a sidecar":               {pods: []said{with(func(s *said) { s.container = "proxy" })}},
		"the same twice":             {pods: []said{good, good}, want: "a report"},
		"two that contradict":        {pods: []said{good, with(func(s *said) { s.message = "another" })}},
		"one more that says nothing": {pods: []said{with(func(s *said) { s.message = "" }), good}, want: "a report"},
	} {
		t.Run(name, func(t *testing.T) {
			live := crashtest.NewAPIServer(t, nil)
			e := expected("image", Identity{})
			job, err := e.Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			job.UID = "created"
			if e.Recorded, err = Identify(job); err != nil {
				t.Fatal(err)
			}
			e.Reports = !tc.silent
			end(job, batchv1.JobComplete)
			if err := live.Create(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			cache := live.Fork(t)
			for i, s := range tc.pods {
				controller := job.DeepCopy()
				controller.UID = job.UID
				if s.owner != "created" {
					controller.UID = "other"
				}
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
					Name: fmt.Sprintf("job-%d-x", i), Namespace: "ns", Labels: map[string]string{batchv1.JobNameLabel: "job"},
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(controller, batchv1.SchemeGroupVersion.WithKind("Job"))},
				}}
				pod.Status.ContainerStatuses = []corev1.ContainerStatus{{
					Name: s.container, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: s.code, Message: s.message}},
				}}
				if err := live.Create(t.Context(), pod.DeepCopy()); err != nil {
					t.Fatal(err)
				}
				if tc.uncached {
					continue
				}
				if err := cache.Create(t.Context(), pod); err != nil {
					t.Fatal(err)
				}
			}
			got, err := e.Read(t.Context(), cache, live, cause.Lookup{}, time.Unix(1000, 0))
			if err != nil || got.Phase != Complete || got.Report != tc.want {
				t.Errorf("got %+v and %v, want report %q", got, err, tc.want)
			}
		})
	}
}
