package keyrotation

import (
	"context"
	"errors"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// TestEachEventComesOnce: the cache is behind at every second write of a Compromise's status, so
// that the step is repeated. No event is repeated.
func TestEachEventComesOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &crashtest.Crash{}, rotation("urgent", urgent))
	recorder := events.NewFakeRecorder(100)
	r := w.reconciler(recorder)
	patches := 0
	r.Client = interceptor.NewClient(w.APIServer, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if patches++; patches%2 == 1 {
				return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("keyrotations").GroupResource(), o.GetName(), errors.New("it has changed"))
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	for pass := 0; !rotations.IsTrue(w.rotation(t, "urgent"), v1alpha1.ConditionOldVersionRetired); pass++ {
		if pass == 100 {
			t.Fatalf("it never ends: %+v", w.rotation(t, "urgent").Status)
		}
		if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Namespace: "ns", Name: "urgent"}}); err != nil {
			t.Fatal(err)
		}
		w.recreateAccounts(t)
		w.restart(t)
		w.endJobs(t, batchv1.JobComplete)
		w.retire(t)
	}
	counts := map[string]int{}
	for len(recorder.Events) > 0 {
		counts[<-recorder.Events]++
	}
	for event, count := range counts {
		// One is on the KeyRotation and one on its SecureNotes.
		want := 2
		if strings.Contains(event, v1alpha1.ReasonComplete+" ") || strings.Contains(event, v1alpha1.ConditionOldVersionRetired) {
			want = 1
		}
		if count != want {
			t.Errorf("%d times, want %d: %s", count, want, event)
		}
	}
	if len(counts) < 5 {
		t.Errorf("%d events: %v", len(counts), counts)
	}
}
