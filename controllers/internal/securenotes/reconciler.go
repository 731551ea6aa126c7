package securenotes

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/served"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Vault is what a SecureNotes needs of Vault.
type Vault interface {
	Connection() vaultadmin.Connection
	Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error)
	Shred(ctx context.Context, d vaultadmin.Deployment) error
	RaiseMinDecryption(ctx context.Context, d vaultadmin.Deployment, version int64) (before int64, err error)
	Trim(ctx context.Context, d vaultadmin.Deployment, version, floor int64) error
	RecordDatabase(ctx context.Context, d vaultadmin.Deployment, before, after vaultadmin.DatabaseState) error
}

// Reconciler reconciles SecureNotes.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Apply writes children.
	Apply *apply.Applier
	// Vault gives the client of a named connection.
	Vault func(connection string) (Vault, bool)
	// Workers is how many objects are reconciled at once.
	Workers int
	// VaultResyncInterval is how often the keys of a settled object are looked at.
	VaultResyncInterval time.Duration
	// Environment of the operands; connection and deployment id are filled in for each object.
	Environment operand.Environment
	// SetupCommand is what the Vault administrator runs when set-up is missing that the object needs.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time
	// WatchCertManager begins to watch cert-manager's objects, once it is installed.
	WatchCertManager func(ctx context.Context) error
	// Served returns how long the certificate is valid that a pod serves.
	Served func(context.Context, *corev1.Pod) (served.Certificate, error)

	served      perObject[servedCertificate]
	vaultChecks perObject[check]
	looks       cause.Memory
	// keysLeft counts the objects that were deleted and whose keys stay in Vault.
	keysLeft atomic.Int64
}

// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=configmaps;serviceaccounts,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=services,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=policy,resources=poddisruptionbudgets,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificates,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=cert-manager.io,resources=certificaterequests,verbs=get
// +kubebuilder:rbac:groups=cert-manager.io,resources=issuers;clusterissuers,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=list
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get
// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=securenotes-system,resources=leases,verbs=get;create;update
// +kubebuilder:rbac:groups="",namespace=securenotes-system,resources=events,verbs=create;patch

// phase does one part of a pass and leaves what it found in the scope. An error is one to try again
// after; trouble that a person has to act on goes into the scope instead.
type phase func(context.Context, *scope) error

func (r *Reconciler) phases() []phase {
	return []phase{
		r.vault,
		r.identities,
		r.configuration,
		r.service,
		r.certificate,
		r.volume,
		r.workload,
		r.disruptionBudget,
		r.pods,
		r.database,
		r.rotations,
		r.retirement,
	}
}

// Reconcile makes one pass over one object.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	sn := &v1alpha1.SecureNotes{}
	if err := r.Client.Get(ctx, request.NamespacedName, sn); err != nil {
		if apierrors.IsNotFound(err) {
			r.Apply.Forget(request.Namespace, request.Name)
			return ctrl.Result{}, nil
		}
		return ctrl.Result{}, err
	}
	s := newScope(sn, r.Environment, r.Now())
	var err error
	switch {
	case sn.DeletionTimestamp != nil:
		var done bool
		if done, err = r.finalize(ctx, s); done {
			return result(0, err)
		}
	case sn.Spec.Suspend != nil && *sn.Spec.Suspend:
		s.suspended = true
		err = r.observe(ctx, s)
	case !controllerutil.ContainsFinalizer(sn, v1alpha1.Finalizer):
		// The patch brings the object back here.
		return result(0, r.patchFinalizers(ctx, sn, controllerutil.AddFinalizer))
	default:
		err = r.run(ctx, s)
	}
	// Even a pass that failed says what it found.
	err = errors.Join(err, r.patchStatus(ctx, s))
	if sn.DeletionTimestamp == nil && !s.suspended {
		err = errors.Join(err, r.fillReplicas(ctx, sn))
	}
	return result(s.requeue, err)
}

// result returns the result of a pass that asked for another one after requeue. A pass whose cache
// was behind is repeated soon.
func result(requeue time.Duration, err error) (ctrl.Result, error) {
	switch {
	case stalecache.Is(err):
		return ctrl.Result{RequeueAfter: stalecache.RequeueAfter()}, nil
	case err != nil:
		return ctrl.Result{}, err
	default:
		return ctrl.Result{RequeueAfter: requeue}, nil
	}
}

func (r *Reconciler) run(ctx context.Context, s *scope) error {
	var errs []error
	for _, do := range r.phases() {
		if err := do(ctx, s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// patchFinalizers changes the finalizer that is ours. It reads the object past the cache, which
// does not have those of others; a merge patch made without them would remove them. Errors: a
// [stalecache.Error] if the object has changed since it was cached.
func (r *Reconciler) patchFinalizers(ctx context.Context, sn *v1alpha1.SecureNotes, change func(client.Object, string) bool) error {
	whole := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(sn), whole); err != nil {
		return client.IgnoreNotFound(err)
	}
	if whole.UID != sn.UID || whole.ResourceVersion != sn.ResourceVersion {
		return stalecache.New("SecureNotes", sn.Name, "it has changed since it was read")
	}
	before := whole.DeepCopy()
	if !change(whole, v1alpha1.Finalizer) {
		return nil
	}
	return client.IgnoreNotFound(r.Client.Patch(ctx, whole, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}
