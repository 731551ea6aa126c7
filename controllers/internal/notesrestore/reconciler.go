package notesrestore

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	utilwait "k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Vault is what a restore needs of Vault.
type Vault interface {
	Connection() vaultadmin.Connection
	RecordRestored(ctx context.Context, d vaultadmin.Deployment, deploymentID string, pepper *vaultadmin.Secret) error
}

// Reconciler carries out NotesRestores.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Vault returns the client of a named connection.
	Vault func(connection string) (Vault, bool)
	// Workers is how many restores are reconciled at once.
	Workers int
	// Environment of the operands. Connection and deployment ID are set for each.
	Environment operand.Environment
	// SetupCommand returns what the Vault administrator runs if a right is missing that the object
	// needs.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time

	// starting prevents two restores of one SecureNotes in this process from both finding that it
	// is their turn.
	starting sync.Mutex
	lookups  cause.Cache
}

const (
	// pollInterval is for the end of pods, which is read past the cache.
	pollInterval = 2 * time.Second
	// waitInterval bounds how long a change that is not watched goes unnoticed.
	waitInterval = 15 * time.Second
	// jitterFactor spreads the passes over many objects in time.
	jitterFactor = 0.2
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores/finalizers,verbs=update
// +kubebuilder:rbac:groups=securenotes.dev,resources=securenotes/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesbackups,verbs=list;watch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;create
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;create;delete
// +kubebuilder:rbac:groups="",resources=persistentvolumeclaims,verbs=get;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get

// Reconcile takes as many steps as are due.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	nr := &v1alpha1.NotesRestore{}
	if err := r.Client.Get(ctx, request.NamespacedName, nr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	return r.loop(nr).Run(ctx, r)
}

// loop returns a pass over one restore.
func (r *Reconciler) loop(nr *v1alpha1.NotesRestore) steps.Loop[*Reconciler, observed] {
	return steps.Loop[*Reconciler, observed]{
		Of:      "NotesRestore " + nr.Name,
		Observe: func(ctx context.Context) (observed, error) { return r.observe(ctx, nr) },
		Next:    next,
		Wait:    r.wait, Fail: r.fail, After: after, Explain: r.explain,
		Log: func(ctx context.Context, s step, o observed) {
			l := log.FromContext(ctx).WithValues("secureNotes", nr.Spec.SecureNotesRef.Name)
			if s.Job != nil {
				l = l.WithValues("job", s.Job(o))
			}
			l.Info("restore step taken", "step", s.Name, "state", nr.Status.State)
		},
	}
}

// wait records what is waited for. A cause replaces the reason of the step, and is emitted as an
// event once.
func (r *Reconciler) wait(ctx context.Context, o observed, d decision) error {
	nr, reason := o.restore, d.Reason
	if d.Cause.Known() {
		reason = d.Cause.Reason
		if before := meta.FindStatusCondition(nr.Status.Conditions, v1alpha1.ConditionReconciling); before == nil || before.Reason != reason {
			r.event(nr, o.parent, corev1.EventTypeWarning, reason, d.Message)
		}
	}
	return r.recordWaiting(ctx, nr, reason, d.Message)
}

// recordWaiting records and logs what is waited for.
func (r *Reconciler) recordWaiting(ctx context.Context, nr *v1alpha1.NotesRestore, reason, message string) error {
	before := meta.FindStatusCondition(nr.Status.Conditions, v1alpha1.ConditionReconciling)
	changed := before == nil || before.Reason != reason || before.Message != message
	err := r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) { setWaiting(nr, s, reason, message) })
	if err == nil && changed {
		log.FromContext(ctx).V(1).Info("restore waits", "reason", reason, "message", message)
	}
	return err
}

func after(d decision) time.Duration {
	switch {
	case d.Cause.Known():
		return utilwait.Jitter(waitInterval, jitterFactor)
	case d.Reason == v1alpha1.ReasonStopping:
		return utilwait.Jitter(pollInterval, jitterFactor)
	default:
		return utilwait.Jitter(waitInterval, jitterFactor)
	}
}

// explain records an error that a person can act on, or that passes, as a condition. Any other
// error is returned to the work queue.
func (r *Reconciler) explain(ctx context.Context, o observed, err error) (again bool, after time.Duration, unexplained error) {
	nr, pause := o.restore, utilwait.Jitter(waitInterval, jitterFactor)
	if restores.Ended(nr) {
		return false, 0, err
	}
	if c := cause.OfError(err); c.Known() {
		d, _ := blocked(o, c, v1alpha1.ReasonProgressing)
		return false, pause, r.wait(ctx, o, d)
	}
	message, problem := err.Error(), vaultadmin.ProblemOf(err)
	switch problem {
	case vaultadmin.Unexpected:
		return false, 0, err
	case vaultadmin.Busy:
		return false, utilwait.Jitter(vaultadmin.BusyPause, jitterFactor), nil
	case vaultadmin.Denied, vaultadmin.SetupMissing:
		message += r.setupAdvice(o.parent)
	}
	return false, pause, r.recordWaiting(ctx, nr, string(problem), message+deletionNote(nr))
}

// blocked waits for something that a person can correct.
func blocked(_ observed, c cause.Cause, reason string) (decision, bool) {
	d, due := steps.Waiting(reason, "%s. To abandon this restore, delete it", c)
	d.Cause = c
	return d, due
}

// vaultOf returns the client of the Vault connection of a SecureNotes.
func (r *Reconciler) vaultOf(parent *v1alpha1.SecureNotes) (Vault, error) {
	if err := operand.CheckClusterID(parent, r.Environment.ClusterID); err != nil {
		return nil, err
	}
	name := operand.VaultConnection(parent)
	vault, ok := r.Vault(name)
	if !ok {
		return nil, vaultadmin.UnknownConnectionError(name)
	}
	return vault, nil
}

// setupAdvice returns what to do about rights that are missing in Vault. It is empty if the
// connection is unknown.
func (r *Reconciler) setupAdvice(parent *v1alpha1.SecureNotes) string {
	vault, err := r.vaultOf(parent)
	if err != nil {
		return ""
	}
	return ": the Vault administrator must run `" + r.SetupCommand(vault.Connection(), parent) + "`"
}

// environmentOf returns the environment of the Job.
func (r *Reconciler) environmentOf(parent *v1alpha1.SecureNotes) (operand.Environment, error) {
	vault, err := r.vaultOf(parent)
	if err != nil {
		return operand.Environment{}, err
	}
	env := r.Environment
	env.Connection, env.DeploymentID = vault.Connection(), parent.Status.DeploymentID
	if pepper := parent.Status.Pepper; pepper != nil {
		env.Pepper, env.PepperDigest = pepper.Entry, pepper.Digest
	}
	return env, nil
}
