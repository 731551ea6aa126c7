package notesbackup

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
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Reconciler carries out NotesBackups.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Connection returns a named connection to Vault. The reconciler sends no request to Vault.
	Connection func(name string) (vaultadmin.Connection, bool)
	// Workers is how many backups are reconciled at once.
	Workers int
	// Environment of the operands. Connection, deployment ID and pepper are set for each.
	Environment operand.Environment
	// SetupCommand returns what the Vault administrator runs if a right is missing that the object
	// needs.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time

	// starting prevents two backups of one SecureNotes from both finding that it is their turn.
	starting sync.Mutex
	lookups  cause.Cache
}

const (
	// waitInterval bounds how long a change that is not watched goes unnoticed.
	waitInterval = 15 * time.Second
	// jitterFactor spreads the passes over many objects in time.
	jitterFactor = 0.2
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=notesbackups,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesbackups/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesbackups/finalizers,verbs=update
// +kubebuilder:rbac:groups=securenotes.dev,resources=notesrestores,verbs=list;watch
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;create
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=events;limitranges,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch

// Reconcile takes as many steps as are due.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	nb := &v1alpha1.NotesBackup{}
	if err := r.Client.Get(ctx, request.NamespacedName, nb); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	return r.loop(nb).Run(ctx, r)
}

// loop returns the pass over a backup.
func (r *Reconciler) loop(nb *v1alpha1.NotesBackup) steps.Loop[*Reconciler, observed] {
	return steps.Loop[*Reconciler, observed]{
		Of:      "NotesBackup " + nb.Name,
		Observe: func(ctx context.Context) (observed, error) { return r.observe(ctx, nb) },
		Next:    next, Wait: r.wait, Fail: r.fail, After: requeueAfter, Explain: r.explain, Log: logStep,
	}
}

// wait records what is waited for. A cause replaces the reason of the step, and is emitted as an
// event once.
func (r *Reconciler) wait(ctx context.Context, o observed, d decision) error {
	nb, reason := o.backup, d.Reason
	before := meta.FindStatusCondition(nb.Status.Conditions, v1alpha1.ConditionReconciling)
	if d.Cause.Known() {
		reason = d.Cause.Reason
	}
	changed := before == nil || before.Reason != reason || before.Message != d.Message
	isNew := before == nil || before.Reason != reason
	if err := r.patchStatus(ctx, nb, func(s *v1alpha1.NotesBackupStatus) { setWaiting(nb, s, reason, d.Message) }); err != nil {
		return err
	}
	if d.Cause.Known() && isNew {
		r.event(nb, o.parent, corev1.EventTypeWarning, reason, d.Message)
	}
	if changed {
		logger(ctx, nb).V(1).Info("backup waits", "reason", reason, "message", d.Message)
	}
	return nil
}

func requeueAfter(d decision) time.Duration {
	if d.Reason == v1alpha1.ReasonSecureNotesNotFound {
		return 0 // the SecureNotes is watched
	}
	return utilwait.Jitter(waitInterval, jitterFactor)
}

// explain records an error that a person can act on, or that passes, as a condition. Any other
// error is returned to the work queue.
func (r *Reconciler) explain(ctx context.Context, o observed, err error) (again bool, after time.Duration, unexplained error) {
	if backups.Ended(o.backup) {
		return false, 0, err
	}
	d, _ := steps.Waiting(string(vaultadmin.ProblemOf(err)), "%s", err)
	if c := cause.OfError(err); c.Known() {
		d, _ = blocked(o, c, v1alpha1.ReasonProgressing)
	} else if vaultadmin.ProblemOf(err) == vaultadmin.Unexpected {
		return false, 0, err
	}
	return false, requeueAfter(d), r.wait(ctx, o, d)
}
