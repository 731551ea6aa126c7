package keyrotation

import (
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// patched returns a change that somebody with the right to patch Jobs makes.
func patched(change func(*batchv1.JobSpec)) func(*batchv1.Job) {
	return func(job *batchv1.Job) { change(&job.Spec) }
}

func withoutPods(spec *batchv1.JobSpec) {
	spec.Completions, spec.Parallelism = new(int32(0)), new(int32(0))
}

// TestPatchedJobs: a Job of the recorded UID that completes is believed only with the spec that it
// was created with, and if a pod of each index has succeeded.
func TestPatchedJobs(t *testing.T) {
	t.Parallel()
	kr := rotation("first", running, from(1), to(2))
	kr.Status.Strategy, kr.Status.Shards = v1alpha1.StrategyReencrypt, 3
	for name, tc := range map[string]struct {
		before  func(*batchv1.Job) // the Job completes
		after   func(*batchv1.Job)
		changed bool // since it was created
		counted bool // all pods, although it is changed
	}{
		"untouched":                         {before: nil, after: nil, changed: false, counted: false},
		"suspended":                         {before: patched(func(s *batchv1.JobSpec) { s.Suspend = new(true) })},
		"without pods":                      {before: patched(withoutPods), changed: true},
		"without pods for a while":          {before: patched(withoutPods), after: func(job *batchv1.Job) { job.Spec.Completions, job.Spec.Parallelism = new(int32(3)), new(int32(3)) }, changed: true},
		"fewer pods":                        {before: patched(func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(2)), new(int32(2)) }), changed: true},
		"an index twice":                    {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0-1,1" }, changed: true},
		"an index is missing":               {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0,2" }, changed: true},
		"no index":                          {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "" }, changed: true},
		"indexes that cannot be read":       {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0-" }, changed: true},
		"a deadline":                        {before: patched(func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(1)) }), changed: true, counted: true},
		"another argument":                  {before: patched(func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Args = nil }), changed: true, counted: true},
		"another node, while it was paused": {before: patched(func(s *batchv1.JobSpec) { s.Template.Spec.NodeSelector = map[string]string{"a": "b"} }), changed: true, counted: true},
	} {
		for release, recorded := range map[string]bool{"this release": true, "an earlier release": false} {
			t.Run(name+", recorded by "+release, func(t *testing.T) {
				w := newWorld(t, &crashtest.Crash{})
				r := w.reconciler(nil)
				job, err := reencryption.expected(r, kr, notes()).Build(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				job.UID = "made"
				now := kr.DeepCopy()
				now.Status.ReencryptJobUID = "made"
				if recorded {
					made, err := trustedjob.Identify(job)
					if err != nil {
						t.Fatal(err)
					}
					now.Status.ReencryptJobUID, now.Status.ReencryptJobDigest = string(made.UID), made.Digest
				}
				if tc.before != nil {
					tc.before(job)
				}
				end(job, batchv1.JobComplete)
				if tc.after != nil {
					tc.after(job)
				}
				if err := w.Create(t.Context(), job); err != nil {
					t.Fatal(err)
				}
				r.Environment.Image = "newer" // an upgrade changes what would be built
				got, err := reencryption.expected(r, now, notes()).Read(t.Context(), w, w, cause.Look{}, time.Unix(1000, 0))
				if err != nil {
					t.Fatal(err)
				}
				want := trustedjob.Complete
				if tc.changed && (recorded || !tc.counted) {
					want = trustedjob.Failed
				}
				if got.Phase != want || (want == trustedjob.Failed) != strings.Contains(got.Message, "find out who changed it") {
					t.Errorf("got %+v, want phase %s, and what to do if it has failed", got, want)
				}
			})
		}
	}
}

// TestPatchedJobEndsNoRotation: Jobs that were patched to complete without a pod are no
// re-encryption and no verification, and nothing is retired.
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

// TestRecordedByAnEarlierRelease: a rotation whose Jobs an earlier release created goes on to its
// end.
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

// TestFailureIsReadPastTheCache: a Job that the cache has as failed, before it has its pods, has
// failed for the reason that they give.
func TestFailureIsReadPastTheCache(t *testing.T) {
	t.Parallel()
	cache, live := newWorld(t, &crashtest.Crash{}), newWorld(t, &crashtest.Crash{})
	r := live.reconciler(nil)
	kr := rotation("first", running, from(1), to(2))
	kr.Status.VerifyJobUID = "made"
	job, err := verification.expected(r, kr, notes()).Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	job.UID = "made"
	end(job, batchv1.JobFailed)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: job.Namespace, Name: "pod", Labels: map[string]string{batchv1.JobNameLabel: job.Name},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(job, batchv1.SchemeGroupVersion.WithKind("Job"))},
	}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: config.ExitRetryable, Message: `{"reason":"StaleRows","message":"a note is under version 1"}`,
	}}}}
	if err := errors.Join(cache.Create(t.Context(), job.DeepCopy()), live.Create(t.Context(), job), live.Create(t.Context(), pod)); err != nil {
		t.Fatal(err)
	}
	got, err := verification.expected(r, kr, notes()).Read(t.Context(), cache, live, cause.Look{}, time.Unix(1000, 0))
	if err != nil || got.Phase != trustedjob.Failed || got.Reason != "StaleRows" || got.Message != "a note is under version 1" {
		t.Errorf("got %+v and error %v, want it failed with StaleRows and the pod's message", got, err)
	}
}
