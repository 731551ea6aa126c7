package keyrotation

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/crashtest"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

func bornAt(second int64) func(*v1alpha1.KeyRotation) {
	return func(kr *v1alpha1.KeyRotation) { kr.CreationTimestamp = metav1.Unix(second, 0) }
}

func names(list []v1alpha1.KeyRotation) []string {
	var names []string
	for _, kr := range list {
		names = append(names, kr.Name)
	}
	slices.Sort(names)
	return names
}

// TestQueueIsBounded: of very many rotations the oldest wait for their turn, and the others fail
// with a reason. They do not cause a Compromise to be refused. A refused rotation can be retried
// once the queue is shorter.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for i := range maxQueued + 3 {
		objects = append(objects, rotation(fmt.Sprintf("r%02d", i), bornAt(int64(i))))
	}
	objects = append(objects, rotation("compromise", urgent, bornAt(1000)))
	w := newWorld(t, &crashtest.Crash{}, objects...)
	refused := func() []string {
		list := &v1alpha1.KeyRotationList{}
		if err := w.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, kr := range list.Items {
			if c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed); c != nil {
				if c.Reason != v1alpha1.ReasonTooManyRotations {
					t.Errorf("%s: %+v", kr.Name, c)
				}
				names = append(names, kr.Name)
			}
		}
		return names
	}
	// The newest first: which ones are refused does not depend on the order of the passes.
	for _, object := range slices.Backward(objects) {
		w.pass(t, object.GetName())
	}
	beyond := names([]v1alpha1.KeyRotation{*rotation("r20"), *rotation("r21"), *rotation("r22")})
	if diff := cmp.Diff(beyond, refused()); diff != "" {
		t.Error(diff)
	}
	if w.rotation(t, "compromise").Status.StartTime == nil {
		t.Error("the Compromise has not begun")
	}
	if err := w.Delete(t.Context(), rotation("r05")); err != nil {
		t.Fatal(err)
	}
	again := w.rotation(t, "r21")
	again.Annotations = map[string]string{v1alpha1.AnnotationRetryRequestedAt: "now"}
	if err := w.Update(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	w.pass(t, "r21")
	if diff := cmp.Diff([]string{"r20", "r22"}, refused()); diff != "" {
		t.Errorf("after the retry: %s", diff)
	}
}

// TestOrphansAreBounded: rotations of a SecureNotes that does not exist are bounded too, and none
// is requeued before something changes.
func TestOrphansAreBounded(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	orphan := func(kr *v1alpha1.KeyRotation) { kr.Spec.SecureNotesRef.Name = "missing" }
	for i := range maxQueued + 1 {
		objects = append(objects, rotation(fmt.Sprintf("r%02d", i), orphan, bornAt(int64(i))))
	}
	w := newWorld(t, &crashtest.Crash{}, objects...)
	for i, object := range objects {
		result, err := w.reconciler(events.NewFakeRecorder(100)).Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKeyFromObject(object)})
		if err != nil || result.RequeueAfter != 0 {
			t.Errorf("%s: %+v, %v", object.GetName(), result, err)
		}
		if got := w.rotation(t, object.GetName()).Status.State; (got == v1alpha1.ConditionFailed) != (i == maxQueued) {
			t.Errorf("%s is %s", object.GetName(), got)
		}
	}
}

// TestOthersMetadataStays: the cache does not have the metadata of others, and no patch of the
// operator removes it.
func TestOthersMetadataStays(t *testing.T) {
	t.Parallel()
	kr := rotation("first", func(kr *v1alpha1.KeyRotation) {
		kr.Finalizers = []string{"example.com/somebody"}
		kr.Labels = map[string]string{"example.com/label": "value"}
		kr.Annotations = map[string]string{"example.com/annotation": "value"}
		kr.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "somebody", UID: "somebody"}}
	})
	w := newWorld(t, &crashtest.Crash{}, kr)
	want := kr.DeepCopy()
	for _, step := range []struct {
		name string
		do   func()
		// guarded says that the rotation has the operator's finalizer afterwards.
		guarded bool
	}{
		{name: "begun", do: func() { w.pass(t, "first") }, guarded: true},
		{name: "ended", do: func() {
			w.endJobs(t, "Failed")
			w.pass(t, "first")
		}, guarded: false},
	} {
		step.do()
		got := w.rotation(t, "first")
		if rotations.HasFinalizer(got) != step.guarded || !metav1.IsControlledBy(got, notes()) {
			t.Errorf("%s: %+v", step.name, got.ObjectMeta)
		}
		got.Finalizers = slices.DeleteFunc(got.Finalizers, func(f string) bool { return f == v1alpha1.Finalizer })
		unmarkEnded(got)
		got.OwnerReferences = slices.DeleteFunc(got.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Controller != nil && *o.Controller })
		for what, pair := range map[string][2]any{
			"finalizers": {want.Finalizers, got.Finalizers}, "labels": {want.Labels, got.Labels},
			"annotations": {want.Annotations, got.Annotations}, "owners": {want.OwnerReferences, got.OwnerReferences},
		} {
			if diff := cmp.Diff(pair[0], pair[1]); diff != "" {
				t.Errorf("%s, %s: %s", step.name, what, diff)
			}
		}
	}
}

// TestRestoredRotationsHaveNoPlace: rotations that had ended before they were restored without
// their status are not refused, and take no place in the queue.
func TestRestoredRotationsHaveNoPlace(t *testing.T) {
	t.Parallel()
	var objects []client.Object
	for i := range maxQueued + 1 {
		objects = append(objects, rotation(fmt.Sprintf("r%02d", i), markEnded, bornAt(int64(i))))
	}
	objects = append(objects, rotation("new", bornAt(1000)))
	w := newWorld(t, &crashtest.Crash{}, objects...)
	for _, object := range slices.Backward(objects) {
		if got := w.pass(t, object.GetName()).Status.State; got == v1alpha1.ConditionFailed {
			t.Errorf("%s is refused", object.GetName())
		}
	}
}
