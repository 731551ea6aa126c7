package securenotes

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
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

// TestQuotaConflictIsRetriedSoon: a quota that changes while the Job is created is a conflict. It
// ends the pass as a stale cache does. It must not wait as long as a Job that the cache will show.
func TestQuotaConflictIsRetriedSoon(t *testing.T) {
	t.Parallel()
	r := reconciler(t, &fakeVault{})
	r.Client = interceptor.NewClient(r.Client.(client.WithWatch), interceptor.Funcs{
		Create: func(context.Context, client.WithWatch, client.Object, ...client.CreateOption) error {
			return apierrors.NewConflict(corev1.Resource("resourcequotas"), "quota", errors.New("the object has been modified"))
		},
	})
	if err := r.retireVersions(t.Context(), healthy(dueAt(2))); !stalecache.Is(err) {
		t.Errorf("got error %v, want the conflict", err)
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

// TestFloorChanged: the message about another min_decryption_version names everyone who may have
// changed it. It does not advise undoing a retirement that the operator itself may have made.
func TestFloorChanged(t *testing.T) {
	t.Parallel()
	floor := func(version int64) func(*scope) {
		return func(s *scope) { s.key.MinDecryption = version }
	}
	pending := func(change func(*v1alpha1.PendingRetirement)) func(*scope) {
		return func(s *scope) { change(&s.sn.Status.MasterKey.PendingRetirements[0]) }
	}
	later := func(p *v1alpha1.PendingRetirement) { p.Due = metav1.NewTime(now.Add(time.Hour)) }
	for name, tc := range map[string]struct {
		changes []func(*scope)
		want    string
	}{
		"unchanged":                        {changes: []func(*scope){dueAt(2)}, want: ""},
		"lowered":                          {changes: []func(*scope){dueAt(2), floor(0)}, want: "somebody has lowered it, or Vault was restored"},
		"raised to a due retirement":       {changes: []func(*scope){dueAt(2), floor(2)}, want: "or the operator was interrupted"},
		"raised to a postponed one":        {changes: []func(*scope){dueAt(2), floor(2), pending(later), pending(func(p *v1alpha1.PendingRetirement) { p.Attempt = 2 })}, want: "or the operator was interrupted"},
		"raised to one that was never due": {changes: []func(*scope){dueAt(2), floor(2), pending(later)}, want: "another client of Vault has raised it: set it back"},
		"raised to another version":        {changes: []func(*scope){dueAt(3), floor(2)}, want: "another client of Vault has raised it: set it back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := floorChanged(healthy(tc.changes...))
			if f.known() != (tc.want != "") || !strings.Contains(f.message, tc.want) {
				t.Errorf("got %+v, want %q", f, tc.want)
			}
		})
	}
}

// TestInterruptedRetirement: the operator dies after it has raised min_decryption_version, and
// comes back when the verification is outdated. It blames nobody, and records the retirement after
// another verification.
func TestInterruptedRetirement(t *testing.T) {
	t.Parallel()
	vault := &fakeVault{}
	s := healthy(dueAt(2))
	r := reconciler(t, vault, s.sn.DeepCopy())
	pass := func() {
		t.Helper()
		if err := retireAndTrim(t.Context(), r, s); err != nil {
			t.Fatal(err)
		}
	}
	pass()
	endJob(t, r, batchv1.JobComplete)
	s.key.MinDecryption = 2
	s.now = now.Add(time.Hour)
	pass()
	if f := rotationHealthy(s); f.reason != v1alpha1.ReasonFloorsChanged || !strings.Contains(f.message, "If nobody has changed it, leave it") {
		t.Errorf("got %+v, want the advice to leave the floor", f)
	}
	s.now = s.now.Add(retirement.Retry)
	pass()
	endJobAt(t, r, batchv1.JobComplete, s.now)
	pass()
	key := s.sn.Status.MasterKey
	if f := rotationHealthy(s); f.status != metav1.ConditionTrue || key.MinDecryptionFloor != 2 || len(key.PendingRetirements) != 0 {
		t.Errorf("got %+v with %+v, want a recorded floor of 2", f, key)
	}
}
