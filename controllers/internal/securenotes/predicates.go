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
	"github.com/securenotes/securenotes/controllers/internal/restores"
)

// ignoreProgressReports filters out updates of the progress ConfigMap. Each pod of a rotation's Job
// writes to it every two seconds, and the SecureNotes does not read it. A deletion still causes a
// pass.
func ignoreProgressReports() builder.OwnsOption {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !strings.HasSuffix(e.ObjectNew.GetName(), operand.ProgressName(""))
	}})
}

// cachedChanges filters out updates that change nothing in the cached part of an object, as those
// of other controllers. It is for kinds whose generation shows a change of the uncached spec.
func cachedChanges() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		if e.ObjectOld.GetResourceVersion() == e.ObjectNew.GetResourceVersion() {
			return true // a resync, which finds drift
		}
		before, ok := e.ObjectOld.DeepCopyObject().(client.Object)
		if !ok {
			return true
		}
		before.SetResourceVersion(e.ObjectNew.GetResourceVersion())
		return !equality.Semantic.DeepEqual(before, e.ObjectNew)
	}}
}

// apiPods filters out the pods of Jobs, and updates that change nothing that [readPods] and the
// selector of the pods read. Otherwise anyone who may annotate a pod could cause passes at will.
func apiPods() predicate.Predicate {
	ofAPI := func(object client.Object) bool {
		return object.GetLabels()[operand.LabelComponent] == operand.ComponentAPI
	}
	changed := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*corev1.Pod)
		after, ok2 := e.ObjectNew.(*corev1.Pod)
		if !ok1 || !ok2 || before.ResourceVersion == after.ResourceVersion {
			return true // a resync
		}
		return (before.DeletionTimestamp == nil) != (after.DeletionTimestamp == nil) ||
			!maps.Equal(before.Labels, after.Labels) || !equality.Semantic.DeepEqual(before.Status, after.Status)
	}}
	return predicate.And(predicate.NewPredicateFuncs(ofAPI), changed)
}

// rotationMilestones filters out the progress of rotations. Only a new version, a condition or a
// deletion affects the SecureNotes.
func rotationMilestones() builder.WatchesOption {
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

// restoreMilestones filters out what does not affect the SecureNotes: it stands still from the time
// at which the turn of a restore is certain until the end, and repeats its conditions meanwhile.
func restoreMilestones() builder.WatchesOption {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: restoreChanges})
}

func restoreChanges(e event.UpdateEvent) bool {
	before, ok1 := e.ObjectOld.(*v1alpha1.NotesRestore)
	after, ok2 := e.ObjectNew.(*v1alpha1.NotesRestore)
	return !ok1 || !ok2 || restores.Certain(before) != restores.Certain(after) ||
		restores.Loaded(before) != restores.Loaded(after) || restores.Ended(before) != restores.Ended(after) ||
		restores.Certain(after) && !equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions)
}

// backupMilestones filters out what does not affect the SecureNotes. Only a condition or a deletion
// of a backup does.
func backupMilestones() builder.WatchesOption {
	return builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, ok1 := e.ObjectOld.(*v1alpha1.NotesBackup)
		after, ok2 := e.ObjectNew.(*v1alpha1.NotesBackup)
		if !ok1 || !ok2 {
			return true
		}
		return !equality.Semantic.DeepEqual(before.Status.Conditions, after.Status.Conditions) ||
			before.Status.SecureNotesUID != after.Status.SecureNotesUID ||
			before.DeletionTimestamp.IsZero() != after.DeletionTimestamp.IsZero()
	}})
}
