// Package restores answers the questions about NotesRestores that more than one controller asks:
// has one ended, does one run, must the SecureNotes stand still. Start with [Active] and [Holding].
package restores

import (
	"cmp"
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/marks"
)

// Ended reports whether a restore is Complete or Failed, or had ended before a tool such as Velero
// restored its object.
func Ended(nr *v1alpha1.NotesRestore) bool {
	return Complete(nr) || Failed(nr) || IsTrue(nr, v1alpha1.ConditionRestored)
}

// Complete reports whether a restore has succeeded.
func Complete(nr *v1alpha1.NotesRestore) bool { return IsTrue(nr, v1alpha1.ConditionComplete) }

// Failed reports whether a restore has failed.
func Failed(nr *v1alpha1.NotesRestore) bool { return IsTrue(nr, v1alpha1.ConditionFailed) }

// WithoutStatus reports whether a restore had started or ended before a tool restored its object
// without its status. It must not start again.
func WithoutStatus(nr *v1alpha1.NotesRestore) bool {
	return !Ended(nr) && (marks.Ended(nr) && !Started(nr) || marks.Started(nr) && nr.Status.State == "")
}

// Started reports whether a restore has recorded that it starts. It may still have to yield its
// turn. Rotations, backups and retirements do not start meanwhile.
func Started(nr *v1alpha1.NotesRestore) bool { return nr.Status.StartTime != nil }

// Certain reports whether it is certain that nothing else of the SecureNotes runs. From then on,
// the SecureNotes stands still until the restore has ended.
func Certain(nr *v1alpha1.NotesRestore) bool { return Started(nr) && nr.Status.SecureNotesUID != "" }

// Loaded reports whether the database is restored, so that only its deployment is left to record.
func Loaded(nr *v1alpha1.NotesRestore) bool { return nr.Status.DeploymentID != "" }

// IsTrue reports whether a condition of a restore is True.
func IsTrue(nr *v1alpha1.NotesRestore, condition string) bool {
	return meta.IsStatusConditionTrue(nr.Status.Conditions, condition)
}

// HasFinalizer reports whether a restore has the operator's finalizer.
func HasFinalizer(nr *v1alpha1.NotesRestore) bool {
	return controllerutil.ContainsFinalizer(nr, v1alpha1.Finalizer)
}

// ByAge compares two restores: the older one comes first. The name decides if both were created in
// the same second.
func ByAge(a, b *v1alpha1.NotesRestore) int {
	return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
}

// Active returns a restore of the SecureNotes that has started and not ended, or nil if there is
// none. What must not run beside a restore calls it after it has recorded its own start, with a
// reader that reads past the cache. A restore likewise reads the others after it has recorded its
// start, so of two that start at once, at least one sees the other.
func Active(ctx context.Context, live client.Reader, namespace, name string) (*v1alpha1.NotesRestore, error) {
	list := &v1alpha1.NotesRestoreList{}
	if err := live.List(ctx, list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list the NotesRestores of SecureNotes %s: %w", name, err)
	}
	return find(list.Items, func(nr *v1alpha1.NotesRestore) bool {
		return nr.Spec.SecureNotesRef.Name == name && Started(nr) && !Ended(nr)
	}), nil
}

// Running is as [Active], but reads the cache.
func Running(ctx context.Context, cache client.Reader, namespace, name string) (*v1alpha1.NotesRestore, error) {
	list, err := ListOpen(ctx, cache, namespace, name)
	return find(list, Started), err
}

// Holding returns the cached restore for which the SecureNotes must stand still, or nil if there is
// none.
func Holding(ctx context.Context, cache client.Reader, namespace, name string) (*v1alpha1.NotesRestore, error) {
	list, err := ListOpen(ctx, cache, namespace, name)
	return find(list, Certain), err
}

func find(all []v1alpha1.NotesRestore, wanted func(*v1alpha1.NotesRestore) bool) *v1alpha1.NotesRestore {
	for i := range all {
		if wanted(&all[i]) {
			return &all[i]
		}
	}
	return nil
}
