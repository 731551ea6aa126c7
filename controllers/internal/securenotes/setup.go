package securenotes

import (
	"cmp"
	"context"
	"sync"
	"time"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/fairqueue"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// SetupWithManager registers the controller, its watches and its metrics.
func (r *Reconciler) SetupWithManager(manager ctrl.Manager) error {
	if err := manager.Add(r.exportMetrics(metrics.Registry)); err != nil {
		return err
	}
	byLabel := handler.EnqueueRequestsFromMapFunc(labeledInstance)
	c, err := ctrl.NewControllerManagedBy(manager).
		Named("securenotes").
		For(&v1alpha1.SecureNotes{}).
		Owns(&appsv1.Deployment{}, builder.WithPredicates(cachedChanges())).
		Owns(&corev1.Service{}, builder.OnlyMetadata).
		Owns(&corev1.ConfigMap{}, builder.OnlyMetadata, ignoreProgressReports()).
		Owns(&corev1.ServiceAccount{}, builder.OnlyMetadata).
		Owns(&rbacv1.Role{}, builder.OnlyMetadata).
		Owns(&rbacv1.RoleBinding{}, builder.OnlyMetadata).
		Owns(&policyv1.PodDisruptionBudget{}, builder.OnlyMetadata).
		Owns(&batchv1.Job{}).
		Watches(&corev1.PersistentVolumeClaim{}, byLabel).
		Watches(&corev1.Pod{}, byLabel, builder.WithPredicates(apiPods())).
		Watches(&v1alpha1.KeyRotation{}, handler.EnqueueRequestsFromMapFunc(referencedInstance), rotationMilestones()).
		Watches(&v1alpha1.NotesBackup{}, handler.EnqueueRequestsFromMapFunc(referencedInstance), backupMilestones()).
		Watches(&v1alpha1.NotesRestore{}, handler.EnqueueRequestsFromMapFunc(referencedInstance), restoreMilestones()).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers,
			NewQueue:                fairqueue.New,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](500*time.Millisecond, time.Minute),
		}).
		Build(r)
	if err != nil {
		return err
	}
	watch := &lateWatch{controller: c, manager: manager, list: r.usersOfIssuer}
	r.WatchCertManager = watch.start
	return nil
}

// labeledInstance returns the SecureNotes that the label of a child without owner reference names.
func labeledInstance(_ context.Context, object client.Object) []reconcile.Request {
	labels := object.GetLabels()
	name := cmp.Or(labels[operand.LabelOwner], labels[operand.LabelInstance])
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// referencedInstance returns the SecureNotes of a KeyRotation or a NotesBackup.
func referencedInstance(_ context.Context, object client.Object) []reconcile.Request {
	var name string
	switch o := object.(type) {
	case *v1alpha1.KeyRotation:
		name = o.Spec.SecureNotesRef.Name
	case *v1alpha1.NotesBackup:
		name = o.Spec.SecureNotesRef.Name
	case *v1alpha1.NotesRestore:
		name = o.Spec.SecureNotesRef.Name
	default:
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// lateWatch starts to watch cert-manager's objects once they are needed and the API server knows
// them. A watch of a kind that is not installed would prevent the operator from starting.
type lateWatch struct {
	controller controller.Controller
	manager    ctrl.Manager
	list       handler.MapFunc

	mu      sync.Mutex
	started bool
}

func (w *lateWatch) start(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.started {
		return nil
	}
	objects := w.manager.GetCache()
	// The cache reads only kinds that it has an informer for, and a watch adds one only later.
	for _, kind := range []client.Object{&certmanagerv1.Certificate{}, &certmanagerv1.Issuer{}, &certmanagerv1.ClusterIssuer{}} {
		if _, err := objects.GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			return err
		}
	}
	owned := handler.EnqueueRequestForOwner(w.manager.GetScheme(), w.manager.GetRESTMapper(), &v1alpha1.SecureNotes{}, handler.OnlyControllerOwner())
	for _, s := range []source.Source{
		source.Kind[client.Object](objects, &certmanagerv1.Certificate{}, owned, cachedChanges()),
		source.Kind[client.Object](objects, &certmanagerv1.Issuer{}, handler.EnqueueRequestsFromMapFunc(w.list), cachedChanges()),
		source.Kind[client.Object](objects, &certmanagerv1.ClusterIssuer{}, handler.EnqueueRequestsFromMapFunc(w.list), cachedChanges()),
	} {
		if err := w.controller.Watch(s); err != nil {
			return err
		}
	}
	w.started = true
	return nil
}

// usersOfIssuer returns the SecureNotes that refer to an issuer.
func (r *Reconciler) usersOfIssuer(ctx context.Context, issuer client.Object) []reconcile.Request {
	list := &v1alpha1.SecureNotesList{}
	// For a ClusterIssuer these are all objects, so they are read without a copy.
	if err := r.Client.List(ctx, list, client.InNamespace(issuer.GetNamespace()), client.UnsafeDisableDeepCopy); err != nil {
		return nil
	}
	var requests []reconcile.Request
	for _, sn := range list.Items {
		if cm := sn.Spec.TLS.CertManager; cm != nil && cm.IssuerRef.Name == issuer.GetName() {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&sn)})
		}
	}
	return requests
}
