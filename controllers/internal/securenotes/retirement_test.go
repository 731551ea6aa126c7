package securenotes

import (
	"context"
	"errors"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// TestPatchedVerificationRetiresNothing: a Job that was patched to complete without a pod has
// verified nothing. One that an earlier release recorded counts if its pod has succeeded.
func TestPatchedVerificationRetiresNothing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		patched, earlier bool
		want             int64
	}{
		"untouched":                      {want: 2},
		"of an earlier release":          {earlier: true, want: 2},
		"patched":                        {patched: true, want: 0},
		"of an earlier release, patched": {patched: true, earlier: true, want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			vault := &fakeVault{}
			s := healthy(dueAt(2))
			r := reconciler(t, vault)
			// Jobs have a UID.
			world := crashtest.NewAPIServer(t, rotations.Indexes, s.sn.DeepCopy())
			r.Client, r.Live = interceptor.NewClient(world, (&crashtest.Crash{}).Interceptor(r.Now)), world
			if err := retireAndTrim(t.Context(), r, s); err != nil {
				t.Fatal(err)
			}
			entry := &s.sn.Status.MasterKey.PendingRetirements[0]
			if entry.JobUID == "" || len(entry.JobDigest) != 64 {
				t.Fatalf("recorded: %+v", entry)
			}
			if tc.earlier {
				entry.JobDigest = ""
			}
			if tc.patched {
				patchedToNoPods(t, r)
			} else {
				endJob(t, r, batchv1.JobComplete)
			}
			if err := retireAndTrim(t.Context(), r, s); err != nil {
				t.Fatal(err)
			}
			if vault.floor != tc.want {
				t.Errorf("the floor is %d, want %d", vault.floor, tc.want)
			}
			left := s.sn.Status.MasterKey.PendingRetirements
			if tc.want == 0 && (len(left) != 1 || !strings.Contains(left[0].Message, "find out who changed it")) {
				t.Errorf("left: %+v", left)
			}
		})
	}
}

// patchedToNoPods completes the one Job as the Job controller completes one without completions.
func patchedToNoPods(t *testing.T, r *Reconciler) {
	t.Helper()
	list := &batchv1.JobList{}
	// Past the cache, which has no spec.
	if err := r.Live.List(t.Context(), list); err != nil || len(list.Items) != 1 {
		t.Fatalf("%v, %d Jobs", err, len(list.Items))
	}
	job := &list.Items[0]
	job.Spec.Completions, job.Spec.Parallelism = new(int32(0)), new(int32(0))
	if err := r.Client.Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	job.Status.CompletionTime = new(metav1.NewTime(now))
	job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobComplete, Status: corev1.ConditionTrue}}
	if err := r.Client.Status().Update(t.Context(), job); err != nil {
		t.Fatal(err)
	}
}

// retireAndTrim runs the phases of retirement and trim, as one pass does.
func retireAndTrim(ctx context.Context, r *Reconciler, s *scope) error {
	s.retirementDue = false
	return errors.Join(r.retireVersions(ctx, s), r.trim(ctx, s))
}
