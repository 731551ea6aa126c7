package keyrotation

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

func withoutPods(spec *batchv1.JobSpec) {
	spec.Completions, spec.Parallelism = new(int32(0)), new(int32(0))
}

// TestPatchedJobEndsNoRotation: Jobs that were patched to complete without a pod do not count as a
// re-encryption or a verification, and nothing is retired.
func TestPatchedJobEndsNoRotation(t *testing.T) {
	t.Parallel()
	for name, genuine := range map[string]int{"the re-encryption": 0, "the verification": 1} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, &crashtest.Crash{}, rotation("first"))
			for range genuine {
				w.pass(t, "first")
				w.endJobs(t, batchv1.JobComplete)
			}
			w.pass(t, "first")
			for _, job := range w.jobs(t) {
				if len(job.Status.Conditions) > 0 {
					continue
				}
				withoutPods(&job.Spec)
				if err := w.Update(t.Context(), &job); err != nil {
					t.Fatal(err)
				}
			}
			w.endJobs(t, batchv1.JobComplete)
			kr := w.pass(t, "first")
			c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed)
			if c == nil || c.Reason != v1alpha1.ReasonJobFailed || !strings.Contains(c.Message, "its spec is not the one that it was created with") {
				t.Errorf("got %+v, want %s because the spec differs", kr.Status.Conditions, v1alpha1.ReasonJobFailed)
			}
			if key := w.parent(t).Status.MasterKey; key != nil && len(key.PendingRetirements) > 0 {
				t.Errorf("it retires %+v", key.PendingRetirements)
			}
		})
	}
}

// TestRecordedByAnEarlierRelease: a rotation whose Jobs an earlier release created completes.
func TestRecordedByAnEarlierRelease(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("first"))
	forget := func() {
		kr := w.pass(t, "first")
		kr.Status.ReencryptJobDigest, kr.Status.VerifyJobDigest = "", ""
		if err := w.Status().Update(t.Context(), kr); err != nil {
			t.Fatal(err)
		}
		w.endJobs(t, batchv1.JobComplete)
	}
	forget()
	forget()
	if kr := w.pass(t, "first"); !rotations.Complete(kr) {
		t.Errorf("got %+v, want it complete", kr.Status)
	}
}
