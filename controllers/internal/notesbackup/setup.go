package notesbackup

import (
	"context"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/fairqueue"
	"github.com/securenotes/securenotes/controllers/internal/restores"
)

// SetupWithManager registers the controller and its watches.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager) error {
	for name, index := range backups.Indexes {
		// The manager's own context ends the cache; an index needs none.
		if err := manager.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.NotesBackup{}, name, index); err != nil {
			return err
		}
	}
	return ctrl.NewControllerManagedBy(manager).
		Named("notesbackup").
		For(&v1alpha1.NotesBackup{}).
		Owns(&batchv1.Job{}).
		Watches(&v1alpha1.SecureNotes{}, handler.EnqueueRequestsFromMapFunc(r.openBackups)).
		Watches(&v1alpha1.NotesBackup{}, handler.EnqueueRequestsFromMapFunc(r.siblings)).
		Watches(&v1alpha1.NotesRestore{}, handler.EnqueueRequestsFromMapFunc(r.afterRestore)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			NewQueue:                fairqueue.New,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, time.Minute),
		}).
		Complete(r)
}

// openBackups requests the open backups of a SecureNotes that has changed.
func (r *Reconciler) openBackups(ctx context.Context, object client.Object) []reconcile.Request {
	return r.requests(ctx, object.GetNamespace(), object.GetName(), "")
}

// siblings requests the other open backups of the same SecureNotes: after one has ended or was
// deleted, it is the turn of the next.
func (r *Reconciler) siblings(ctx context.Context, object client.Object) []reconcile.Request {
	nb, ok := object.(*v1alpha1.NotesBackup)
	if !ok {
		return nil
	}
	return r.requests(ctx, nb.Namespace, nb.Spec.SecureNotesRef.Name, nb.Name)
}

// afterRestore requests the open backups of the SecureNotes of a restore that has ended or is gone.
func (r *Reconciler) afterRestore(ctx context.Context, object client.Object) []reconcile.Request {
	if nr, ok := object.(*v1alpha1.NotesRestore); ok && (restores.Ended(nr) || nr.DeletionTimestamp != nil) {
		return r.requests(ctx, nr.Namespace, nr.Spec.SecureNotesRef.Name, "")
	}
	return nil
}

func (r *Reconciler) requests(ctx context.Context, namespace, parent, except string) []reconcile.Request {
	open, err := backups.ListOpen(ctx, r.Client, namespace, parent)
	if err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range open {
		if name := open[i].Name; name != except {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
		}
	}
	return requests
}
