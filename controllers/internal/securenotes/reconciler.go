package securenotes

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/served"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Vault is what the reconciler needs of a Vault client.
type Vault interface {
	Connection() vaultadmin.Connection
	Ensure(ctx context.Context, d vaultadmin.Deployment) (vaultadmin.DeploymentState, error)
	Shred(ctx context.Context, d vaultadmin.Deployment) error
	RaiseMinDecryption(ctx context.Context, d vaultadmin.Deployment, version int64) (before int64, err error)
	Trim(ctx context.Context, d vaultadmin.Deployment, version, floor int64) error
	CreateDrillIdentity(ctx context.Context, d vaultadmin.Deployment, entry string, identity *config.DrillIdentity, record func(context.Context) error) error
	DestroyDrillIdentity(ctx context.Context, d vaultadmin.Deployment, entry string) error
	RecordDatabase(ctx context.Context, d vaultadmin.Deployment, before, after vaultadmin.DatabaseState) error
}

// Reconciler reconciles SecureNotes.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Apply writes children.
	Apply *apply.Applier
	// Vault returns the client of a named connection, and whether there is one.
	Vault func(connection string) (Vault, bool)
	// Workers is how many objects are reconciled at once.
	Workers int
	// VaultResyncInterval is how often the keys of a settled object are checked.
	VaultResyncInterval time.Duration
	// Environment of the operands. Each pass adds the connection and the deployment id.
	Environment operand.Environment
	// SetupCommand returns the command with which the Vault administrator grants missing rights.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time
	// WatchCertManager starts to watch the objects of cert-manager, once it is installed.
	WatchCertManager func(ctx context.Context) error
	// Served returns the certificate that a pod serves.
	Served func(context.Context, *corev1.Pod) (served.Certificate, error)

	served      perObject[servedCertificate]
	vaultChecks perObject[check]
	lookups     cause.Cache
	// deniedBackups are the Vault connections whose lack of rights to backup keys was logged.
	deniedBackups seen
	// keysLeft counts the deleted objects whose keys stay in Vault.
	keysLeft atomic.Int64
}

// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/finalizers,verbs=update
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;list;watch;create;patch;delete
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

// phase does one part of a pass. It observes and acts, and writes its results into the scope. The
// work queue retries the pass after an error. A fault that needs a person is a result instead.
type phase struct {
	// name appears in the log as the step.
	name string
	run  func(context.Context, *scope) error
}

func (r *Reconciler) phases() []phase {
	return []phase{
		{"vault", r.vault},
		{"identities", r.identities},
		{"configuration", r.configuration},
		{"service", r.service},
		{"certificate", r.certificate},
		{"volume", r.volume},
		{"workload", r.workload},
		{"disruption budget", r.disruptionBudget},
		{"pods", r.pods},
		{"database", r.database},
		{"rotations", r.manageRotations},
		{"retirement", r.retireVersions},
		{"trim", r.trim},
		{"backup identities", r.backupIdentities},
		{"backups", r.manageBackups},
		{"drill", r.manageDrill},
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
		if done, err = r.finalize(withStep(ctx, "deletion"), s); done {
			return result(ctx, requeue{}, err)
		}
	case ptr.Deref(sn.Spec.Suspend, false):
		s.suspended = true
		err = r.observe(withStep(ctx, "observation"), s)
	case !controllerutil.ContainsFinalizer(sn, v1alpha1.Finalizer):
		// The patch causes another pass.
		return result(ctx, requeue{}, r.patchFinalizers(withStep(ctx, "finalizer"), sn, controllerutil.AddFinalizer))
	default:
		err = r.run(ctx, s)
	}
	// The status of a failed pass holds its results too.
	err = errors.Join(err, r.patchStatus(withStep(ctx, "status"), s))
	if sn.DeletionTimestamp == nil && !s.suspended {
		err = errors.Join(err, r.fillReplicas(withStep(ctx, "replicas"), sn))
	}
	return result(ctx, s.requeue, err)
}

// withStep returns a context whose logger names the step of the pass.
func withStep(ctx context.Context, name string) context.Context {
	return log.IntoContext(ctx, log.FromContext(ctx).WithValues("step", name))
}

// result returns how the pass ends, and logs its requeue. A pass with a stale cache is repeated
// soon.
func result(ctx context.Context, next requeue, err error) (ctrl.Result, error) {
	switch {
	case stalecache.Is(err):
		next = requeue{stalecache.RequeueAfter(), err.Error()}
	case err != nil:
		return ctrl.Result{}, err
	case next.after == 0:
		return ctrl.Result{}, nil
	}
	log.FromContext(ctx).V(1).Info("requeued", "after", next.after.String(), "reason", next.reason)
	return ctrl.Result{RequeueAfter: next.after}, nil
}

func (r *Reconciler) run(ctx context.Context, s *scope) error {
	phases, err := r.phasesOf(ctx, s)
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range phases {
		if err := p.run(withStep(ctx, p.name), s); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// patchFinalizers adds or removes the operator's finalizer. It reads the object past the cache,
// which does not hold the finalizers of others: a merge patch without them would remove them. It
// returns a [stalecache.Error] if the object has changed since it was cached.
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
	err := r.Client.Patch(ctx, whole, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err == nil {
		log.FromContext(ctx).Info("finalizers changed", "finalizers", whole.Finalizers)
	}
	return client.IgnoreNotFound(err)
}
