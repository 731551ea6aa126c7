package keyrotation

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

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Reconciler carries out KeyRotations.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Vault returns the client of a named connection.
	Vault func(connection string) (Vault, bool)
	// Workers is how many rotations are reconciled at once.
	Workers int
	// Environment of the operands. Connection and deployment ID are set for each.
	Environment operand.Environment
	// SetupCommand returns what the Vault administrator runs if a right is missing that the object
	// needs.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time

	// starting prevents two rotations of one SecureNotes in this process from both finding that it
	// is their turn.
	starting sync.Mutex
	lookups  cause.Cache
}

const (
	// pollInterval is for work that is not watched. Its progress is not, because each shard writes
	// to the ConfigMap of the reports every two seconds.
	pollInterval = 2 * time.Second
	// waitInterval bounds how long a change that is not watched goes unnoticed.
	waitInterval = 15 * time.Second
	// jitterFactor spreads the passes over many objects in time.
	jitterFactor = 0.2
	// abandonAfter is how long a rotation that was deleted waits for a Job that is blocked.
	abandonAfter = time.Minute
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations/finalizers,verbs=update
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores,verbs=list;watch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;delete
// +kubebuilder:rbac:groups="",resources=events;limitranges,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch

// Reconcile takes as many steps as are due.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	kr := &v1alpha1.KeyRotation{}
	if err := r.Client.Get(ctx, request.NamespacedName, kr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.warnOfRetry(kr)
	return r.loop(kr).Run(ctx, r)
}

// loop returns the pass over a rotation.
func (r *Reconciler) loop(kr *v1alpha1.KeyRotation) steps.Loop[*Reconciler, observed] {
	return steps.Loop[*Reconciler, observed]{
		Of:      "KeyRotation " + kr.Name,
		Observe: func(ctx context.Context) (observed, error) { return r.observe(ctx, kr) },
		Next:    next, Wait: r.wait, Fail: r.fail, After: requeueAfter, Explain: r.explain, Log: logStep,
	}
}

// wait records what is waited for. A cause replaces the reason of the step, and is emitted as an
// event once.
func (r *Reconciler) wait(ctx context.Context, o observed, d decision) error {
	kr, reason := o.rotation, d.Reason
	if d.Cause.Known() {
		reason = d.Cause.Reason
		if before := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling); before == nil || before.Reason != reason {
			r.event(kr, o.parent, corev1.EventTypeWarning, reason, d.Message)
		}
	}
	return r.recordWaiting(ctx, kr, reason, d.Message, func(s *v1alpha1.KeyRotationStatus) {
		if d.Reason == v1alpha1.ReasonReencrypting {
			r.setProgress(ctx, kr, s)
		}
	})
}

// recordWaiting records and logs what is waited for.
func (r *Reconciler) recordWaiting(ctx context.Context, kr *v1alpha1.KeyRotation, reason, message string, change func(*v1alpha1.KeyRotationStatus)) error {
	before := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling)
	changed := before == nil || before.Reason != reason || before.Message != message
	err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		setWaiting(kr, s, reason, message)
		change(s)
	})
	if err == nil && changed {
		logger(ctx, kr).V(1).Info("rotation waits", "reason", reason, "message", message)
	}
	return err
}

func requeueAfter(d decision) time.Duration {
	switch {
	case d.Cause.Known():
		return utilwait.Jitter(waitInterval, jitterFactor) // the Job is watched, what blocks it is not
	case isWork(d.Reason):
		return utilwait.Jitter(pollInterval, jitterFactor)
	case d.Reason == v1alpha1.ReasonSecureNotesNotFound:
		return 0 // the SecureNotes is watched
	default:
		return utilwait.Jitter(waitInterval, jitterFactor)
	}
}

// explain records an error that a person can act on, or that passes, as a condition. Any other
// error is returned to the work queue.
func (r *Reconciler) explain(ctx context.Context, o observed, err error) (again bool, after time.Duration, unexplained error) {
	kr := o.rotation
	if c := cause.OfError(err); c.Known() && !rotations.Ended(kr) {
		d, _ := blocked(o, c, v1alpha1.ReasonProgressing)
		if d.Verdict == steps.Fail {
			return true, 0, r.fail(ctx, o, d)
		}
		return false, requeueAfter(d), r.wait(ctx, o, d)
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
	return false, utilwait.Jitter(waitInterval, jitterFactor), r.recordWaiting(ctx, kr, string(problem), message+deletionNote(kr), func(*v1alpha1.KeyRotationStatus) {})
}
