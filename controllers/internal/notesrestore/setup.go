package notesrestore

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/fairqueue"
	"github.com/securenotes/securenotes/controllers/internal/restores"
)

// SetupWithManager registers the controller and its watches.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager) error {
	for name, index := range restores.Indexes {
		// The manager's own context ends the cache; an index needs none.
		if err := manager.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.NotesRestore{}, name, index); err != nil {
			return err
		}
	}
	open := handler.EnqueueRequestsFromMapFunc(r.openRestores)
	return ctrl.NewControllerManagedBy(manager).
		Named("notesrestore").
		For(&v1alpha1.NotesRestore{}).
		Owns(&batchv1.Job{}).
		Watches(&v1alpha1.SecureNotes{}, open).
		// Their end may be what a queued restore waits for.
		Watches(&v1alpha1.NotesRestore{}, open).
		Watches(&v1alpha1.KeyRotation{}, open).
		Watches(&v1alpha1.NotesBackup{}, open).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			NewQueue:                fairqueue.New,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, time.Minute),
		}).
		Complete(r)
}

// openRestores requests the restores that have not ended of a SecureNotes, or of the SecureNotes
// that an object refers to.
func (r *Reconciler) openRestores(ctx context.Context, object client.Object) []reconcile.Request {
	parent, except := object.GetName(), ""
	switch o := object.(type) {
	case *v1alpha1.NotesRestore:
		parent, except = o.Spec.SecureNotesRef.Name, o.Name
	case *v1alpha1.KeyRotation:
		parent = o.Spec.SecureNotesRef.Name
	case *v1alpha1.NotesBackup:
		parent = o.Spec.SecureNotesRef.Name
	}
	list, err := restores.ListOpen(ctx, r.Client, object.GetNamespace(), parent)
	if err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range list {
		if list[i].Name != except {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list[i])})
		}
	}
	return requests
}
