package securenotes

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// ignoreProgress leaves out the progress ConfigMap's reports, which come once a second and are none
// of the object's own. That somebody deletes it is not left out.
func ignoreProgress() builder.OwnsOption {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !strings.HasSuffix(e.ObjectNew.GetName(), operand.ProgressName(""))
	}})
}

// changes leaves out updates in which nothing changed of what the cache keeps; other controllers
// may write their own part of an object as often as they like. It is for kinds with a generation,
// which tells of a changed spec that is not cached.
func changes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
			return true // the cache is being gone through, to find drift
		}
		before, ok := e.ObjectOld.DeepCopyObject().(client.Object)
		if !ok {
			return true
		}
		before.SetResourceVersion(e.ObjectNew.GetResourceVersion())
		return !equality.Semantic.DeepEqual(before, e.ObjectNew)
	}}
}

// apiPods leaves out the pods of Jobs, and updates in which nothing changed of what [readPods] and
// the selector of the pods read: anyone who may annotate a pod could have a pass made each time.
func apiPods() predicate.Predicate {
	ofAPI := func(object client.Object) bool {
		return object.GetLabels()[operand.LabelComponent] == operand.ComponentAPI
	}
	changed := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*corev1.Pod)
		after, ok2 := e.ObjectNew.(*corev1.Pod)
		if !ok1 || !ok2 || before.ResourceVersion == after.ResourceVersion {
			return true // the cache is being gone through
		}
		return (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
			!maps.Equal(before.Labels, after.Labels) || !equality.Semantic.DeepEqual(before.Status, after.Status)
	}}
	return predicate.And(predicate.NewPredicateFuncs(ofAPI), changed)
}

// turningPoints leaves out the progress of rotations: only a new version, or a condition, matters to
// the SecureNotes.
func turningPoints() builder.WatchesOption {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.KeyRotation)
		after, ok2 := e.ObjectNew.(*v1alpha1.KeyRotation)
		if !ok1 || !ok2 {
			return true
		}
		return !equality.Semantic.DeepEqual(before.Status.ToVersion, after.Status.ToVersion) ||
			!equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions) ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
	}})
}
