package trustedjob

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
)

// expected returns the re-encryption Job of KeyRotation first, which has three pods, as an operator
// with this image of the operands creates it.
func expected(image string, recorded Identity) Expected {
	parent := &v1alpha1.SecureNotes{ObjectMeta: metav1.ObjectMeta{Name: "notes", Namespace: "ns", UID: "notes-uid"}}
	owner := &v1alpha1.KeyRotation{ObjectMeta: metav1.ObjectMeta{Name: "first", Namespace: "ns", UID: "first-uid"}}
	return Expected{Key: client.ObjectKey{Namespace: "ns", Name: "job"}, Owner: owner, Recorded: recorded, Pods: 3, Build: func(context.Context) (*batchv1.Job, error) {
		return operand.ReencryptJob(parent, operand.Environment{Image: image, ClusterID: "cluster"}, operand.Work{
			Owner: metav1.NewControllerRef(owner, v1alpha1.GroupVersion.WithKind("KeyRotation")), Name: "job",
			ToVersion: 2, Strategy: v1alpha1.StrategyReencrypt, Shards: 3,
		}), nil
	}}
}

// end ends a Job. A Job that completes has every pod that it asks for.
func end(job *batchv1.Job, kind batchv1.JobConditionType) {
	job.Status.Conditions = []batchv1.JobCondition{{Type: kind, Status: corev1.ConditionTrue}}
	if kind != batchv1.JobComplete {
		return
	}
	var indexes []string
	for i := range *job.Spec.Completions {
		indexes = append(indexes, fmt.Sprint(i))
	}
	job.Status.Succeeded, job.Status.CompletedIndexes = *job.Spec.Completions, strings.Join(indexes, ",")
}

// patched returns a change to a Job that somebody makes who may patch Jobs.
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
	for name, tc := range map[string]struct {
		before  func(*batchv1.Job) // the Job completes
		after   func(*batchv1.Job)
		changed bool // since it was created
		counted bool // all pods, although it is changed
	}{
		"untouched":                            {before: nil, after: nil, changed: false, counted: false},
		"suspended":                            {before: patched(func(s *batchv1.JobSpec) { s.Suspend = new(true) })},
		"without pods":                         {before: patched(withoutPods), changed: true},
		"without pods for a while":             {before: patched(withoutPods), after: func(job *batchv1.Job) { job.Spec.Completions, job.Spec.Parallelism = new(int32(3)), new(int32(3)) }, changed: true},
		"fewer pods":                           {before: patched(func(s *batchv1.JobSpec) { s.Completions, s.Parallelism = new(int32(2)), new(int32(2)) }), changed: true},
		"an index twice":                       {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0-1,1" }, changed: true},
		"an index is missing":                  {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0,2" }, changed: true},
		"no index":                             {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "" }, changed: true},
		"indexes that cannot be read":          {after: func(job *batchv1.Job) { job.Status.CompletedIndexes = "0-" }, changed: true},
		"a deadline":                           {before: patched(func(s *batchv1.JobSpec) { s.ActiveDeadlineSeconds = new(int64(1)) }), changed: true, counted: true},
		"another argument":                     {before: patched(func(s *batchv1.JobSpec) { s.Template.Spec.Containers[0].Args = nil }), changed: true, counted: true},
		"another node, while it was suspended": {before: patched(func(s *batchv1.JobSpec) { s.Template.Spec.NodeSelector = map[string]string{"a": "b"} }), changed: true, counted: true},
	} {
		for release, recorded := range map[string]bool{"this release": true, "an earlier release": false} {
			t.Run(name+", recorded by "+release, func(t *testing.T) {
				w := crashtest.NewAPIServer(t, nil)
				job, err := expected("image", Identity{}).Build(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				job.UID = "created"
				identity := Identity{UID: "created"}
				if recorded {
					if identity, err = Identify(job); err != nil {
						t.Fatal(err)
					}
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
				// An upgrade of the operator changes the image.
				got, err := expected("newer", identity).Read(t.Context(), w, w, cause.Lookup{}, time.Unix(1000, 0))
				if err != nil {
					t.Fatal(err)
				}
				want := Complete
				if tc.changed && (recorded || !tc.counted) {
					want = Failed
				}
				if got.Phase != want || (want == Failed) != strings.Contains(got.Message, "find out who changed it") {
					t.Errorf("got %+v, want phase %s, and what to do if it has failed", got, want)
				}
			})
		}
	}
}

// TestForgedJobs: a Job of the right name, labels and owner is believed only if the operator
// created it.
func TestForgedJobs(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		image    string
		recorded types.UID
		change   func(*batchv1.Job)
		foreign  string
	}{
		"the created Job":                  {image: "image", recorded: "created", change: func(*batchv1.Job) {}},
		"created by an earlier release":    {image: "newer", recorded: "created", change: func(*batchv1.Job) {}},
		"created, and not recorded":        {image: "image", change: func(*batchv1.Job) {}},
		"another one of the same name":     {image: "image", recorded: "created", change: func(j *batchv1.Job) { j.UID = "forged" }, foreign: "another of the same name"},
		"not recorded, of another image":   {image: "image", change: func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "true" }, foreign: "its image"},
		"not recorded, of another command": {image: "image", change: func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Command = []string{"true"} }, foreign: "its command"},
		"not recorded, of another owner":   {image: "image", change: func(j *batchv1.Job) { j.OwnerReferences[0].UID = "b" }, foreign: "does not belong to first"},
		"recorded, without an owner":       {image: "image", recorded: "created", change: func(j *batchv1.Job) { j.OwnerReferences = nil }, foreign: "does not belong to first"},
		"recorded, without our labels":     {image: "image", recorded: "created", change: func(j *batchv1.Job) { j.Labels = nil }, foreign: "does not belong to first"},
	} {
		t.Run(name, func(t *testing.T) {
			job, err := expected("image", Identity{}).Build(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			job.UID = "created"
			end(job, batchv1.JobComplete)
			tc.change(job)
			w := crashtest.NewAPIServer(t, nil, job)
			got, err := expected(tc.image, Identity{UID: tc.recorded}).Read(t.Context(), w, w, cause.Lookup{}, time.Unix(1000, 0))
			if err != nil {
				t.Fatal(err)
			}
			want := Complete
			if tc.foreign != "" {
				want = Foreign
			}
			if got.Phase != want || !strings.Contains(got.Message, tc.foreign) || (tc.foreign == "") != (got.Identity.UID == "created") {
				t.Errorf("got %+v, want phase %s and %q", got, want, tc.foreign)
			}
		})
	}
}

// TestFailureIsReadPastTheCache: if the cache has a failed Job but not yet its pods, the reason is
// read from the pods past the cache.
func TestFailureIsReadPastTheCache(t *testing.T) {
	t.Parallel()
	cache, live := crashtest.NewAPIServer(t, nil), crashtest.NewAPIServer(t, nil)
	job, err := expected("image", Identity{}).Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	job.UID = "created"
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
	got, err := expected("image", Identity{UID: "created"}).Read(t.Context(), cache, live, cause.Lookup{}, time.Unix(1000, 0))
	if err != nil || got.Phase != Failed || got.Reason != "StaleRows" || got.Message != "a note is under version 1" {
		t.Errorf("got %+v and error %v, want it failed with StaleRows and the pod's message", got, err)
	}
}

// TestCreate: a Job that exists already is not created again. If it is the expected one the cache
// is behind, and otherwise it is foreign.
func TestCreate(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		existing       func(*batchv1.Job)
		stale, foreign bool
	}{
		"it does not exist": {},
		"it exists":         {existing: func(*batchv1.Job) {}, stale: true},
		"a foreign Job":     {existing: func(j *batchv1.Job) { j.Spec.Template.Spec.Containers[0].Image = "other" }, foreign: true},
	} {
		t.Run(name, func(t *testing.T) {
			w := crashtest.NewAPIServer(t, nil)
			if tc.existing != nil {
				job, err := expected("image", Identity{}).Build(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				tc.existing(job)
				if err := w.Create(t.Context(), job); err != nil {
					t.Fatal(err)
				}
			}
			created, err := expected("image", Identity{}).Create(t.Context(), w, w)
			_, foreign := errors.AsType[*ForeignError](err)
			if stale := stalecache.Is(err); stale != tc.stale || foreign != tc.foreign || (err == nil) != (tc.existing == nil) {
				t.Errorf("got error %v, want a stale cache %v, a foreign Job %v", err, tc.stale, tc.foreign)
			}
			if (len(created.Digest) == 64) != (tc.existing == nil) {
				t.Errorf("got %+v, want the identity of a created Job alone", created)
			}
		})
	}
}
