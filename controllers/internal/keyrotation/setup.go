package keyrotation

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
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/fairqueue"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// SetupWithManager registers the controller, its watches and its metrics.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager) error {
	if err := manager.Add(exported(r.Client, metrics.Registry)); err != nil {
		return err
	}
	for name, index := range rotations.Indexes {
		// The manager's own context ends the cache; an index needs none.
		if err := manager.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.KeyRotation{}, name, index); err != nil {
			return err
		}
	}
	return ctrl.NewControllerManagedBy(manager).
		Named("keyrotation").
		For(&v1alpha1.KeyRotation{}).
		Owns(&batchv1.Job{}).
		Watches(&v1alpha1.SecureNotes{}, handler.EnqueueRequestsFromMapFunc(r.openRotations)).
		Watches(&v1alpha1.KeyRotation{}, handler.EnqueueRequestsFromMapFunc(r.siblings)).
		Watches(&v1alpha1.NotesRestore{}, handler.EnqueueRequestsFromMapFunc(r.afterRestore)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			NewQueue:                fairqueue.New,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, time.Minute),
		}).
		Complete(r)
}

// openRotations requests the open rotations of a SecureNotes that has changed: it may have become
// ready, be being deleted, or have retired a version.
func (r *Reconciler) openRotations(ctx context.Context, object client.Object) []reconcile.Request {
	return r.requests(ctx, object.GetNamespace(), object.GetName(), "")
}

// siblings requests the other open rotations of the same SecureNotes: after one has ended it may be
// the turn of the next, and a Compromise that starts supersedes the one that runs.
func (r *Reconciler) siblings(ctx context.Context, object client.Object) []reconcile.Request {
	kr, ok := object.(*v1alpha1.KeyRotation)
	starts := ok && rotations.Started(kr) && rotations.Compromise(kr)
	if !ok || (!rotations.Ended(kr) && !starts) {
		return nil
	}
	return r.requests(ctx, kr.Namespace, kr.Spec.SecureNotesRef.Name, kr.Name)
}

// afterRestore requests the open rotations of the SecureNotes of a restore that has ended or is
// gone.
func (r *Reconciler) afterRestore(ctx context.Context, object client.Object) []reconcile.Request {
	if nr, ok := object.(*v1alpha1.NotesRestore); ok && (restores.Ended(nr) || nr.DeletionTimestamp != nil) {
		return r.requests(ctx, nr.Namespace, nr.Spec.SecureNotesRef.Name, "")
	}
	return nil
}

func (r *Reconciler) requests(ctx context.Context, namespace, parent, except string) []reconcile.Request {
	list, err := rotations.ListOpen(ctx, r.Client, namespace, parent)
	if err != nil {
		return nil
	}
	var requests []reconcile.Request
	for i := range list {
		if name := list[i].Name; name != except {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}})
		}
	}
	return requests
}
