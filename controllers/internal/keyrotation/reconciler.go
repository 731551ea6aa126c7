package keyrotation

import (
	"context"
	"fmt"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// Vault is what a rotation needs of Vault.
type Vault interface {
	Connection() vaultadmin.Connection
	ReadKey(ctx context.Context, key string) (vaultadmin.KeyState, error)
	Rotate(ctx context.Context, d vaultadmin.Deployment) error
	RaiseMinEncryption(ctx context.Context, d vaultadmin.Deployment, version int64) error
	ReplaceSessionKeys(ctx context.Context, d vaultadmin.Deployment, version int64) error
	RevokeDatabaseCredentials(ctx context.Context, d vaultadmin.Deployment) error
	DeleteOtherSessionKeys(ctx context.Context, d vaultadmin.Deployment, replaced string) error
}

// Reconciler carries out KeyRotations.
type Reconciler struct {
	// Client reads from the cache; Live reads past it.
	Client client.Client
	Live   client.Reader
	// Vault gives the client of a named connection.
	Vault func(connection string) (Vault, bool)
	// Workers is how many rotations are reconciled at once.
	Workers int
	// Environment of the operands; connection and deployment id are filled in for each.
	Environment operand.Environment
	// SetupCommand is what the Vault administrator runs when a right is missing that the object needs.
	SetupCommand func(vaultadmin.Connection, *v1alpha1.SecureNotes) string
	Recorder     events.EventRecorder
	Now          func() time.Time

	// starting keeps two rotations of one SecureNotes from both finding that it is their turn, in this process.
	starting sync.Mutex
	looks    cause.Memory
}

const (
	// pollInterval while something is under way that is not watched. Progress is not, because its
	// ConfigMap changes once a second for each shard.
	pollInterval = 2 * time.Second
	// waitInterval bounds how long something that is not watched goes unnoticed.
	waitInterval = 15 * time.Second
	// giveUpAfter is how long a rotation that was deleted may wait for a Job that cannot go on.
	giveUpAfter = time.Minute
	// maxSteps of one pass; a rotation has fewer.
	maxSteps = 32
)

// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations,verbs=get;list;watch;create;patch;delete
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations/status,verbs=patch
// +kubebuilder:rbac:groups=securenotes.dev,resources=keyrotations/finalizers,verbs=update
// +kubebuilder:rbac:groups=batch,resources=jobs,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=serviceaccounts,verbs=get;delete
// +kubebuilder:rbac:groups="",resources=events;limitranges,verbs=list
// +kubebuilder:rbac:groups=apps,resources=deployments,verbs=get;list;watch

// Reconcile takes as many steps as can be taken now.
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	kr := &v1alpha1.KeyRotation{}
	if err := r.Client.Get(ctx, request.NamespacedName, kr); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	r.warnOfRetry(kr)
	for range maxSteps {
		again, after, err := r.once(ctx, kr)
		if stalecache.Is(err) {
			return ctrl.Result{RequeueAfter: stalecache.RequeueAfter()}, nil
		}
		if err != nil || !again {
			return ctrl.Result{RequeueAfter: after}, err
		}
	}
	return ctrl.Result{}, fmt.Errorf("KeyRotation %s: no end after %d steps", kr.Name, maxSteps)
}

// once observes, decides and takes one step. again says that another may follow at once.
func (r *Reconciler) once(ctx context.Context, kr *v1alpha1.KeyRotation) (again bool, after time.Duration, err error) {
	o, err := r.observe(ctx, kr)
	if err != nil {
		return r.orWait(ctx, o, err)
	}
	d := next(o)
	switch d.action {
	case actionNone:
		return false, 0, nil
	case actionWait:
		return false, r.waitFor(d), r.wait(ctx, o, d)
	}
	if err := r.perform(ctx, o, d); err != nil {
		return r.orWait(ctx, o, err)
	}
	return true, 0, nil
}

// wait records what is waited for. A cause takes the place of the step's own reason, and is told
// once.
func (r *Reconciler) wait(ctx context.Context, o observed, d decision) error {
	kr, reason := o.rotation, d.reason
	if d.cause.Known() {
		reason = d.cause.Reason
		if before := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionReconciling); before == nil || before.Reason != reason {
			r.event(kr, o.parent, corev1.EventTypeWarning, reason, d.message)
		}
	}
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		setWaiting(kr, s, reason, d.message)
		if d.reason == v1alpha1.ReasonReencrypting {
			r.setProgress(ctx, kr, s)
		}
	})
}

func (r *Reconciler) waitFor(d decision) time.Duration {
	switch {
	case d.cause.Known():
		return jitter.Longer(waitInterval) // of the Job and the objects that heal it, the Job is watched
	case isWork(d.reason):
		return jitter.Longer(pollInterval)
	case d.reason == v1alpha1.ReasonSecureNotesNotFound:
		return 0 // the SecureNotes is watched
	default:
		return jitter.Longer(waitInterval)
	}
}

// orWait turns trouble with Vault, which passes, and what the API server refuses into a condition;
// other errors go to the work queue.
func (r *Reconciler) orWait(ctx context.Context, o observed, err error) (bool, time.Duration, error) {
	if c := cause.OfError(err); c.Known() && !rotations.Ended(o.rotation) {
		d := hindered(o, c, v1alpha1.ReasonProgressing)
		if d.action == actionFail {
			return true, 0, r.fail(ctx, o.rotation, o.parent, d)
		}
		return false, r.waitFor(d), r.wait(ctx, o, d)
	}
	problem := vaultadmin.ProblemOf(err)
	switch problem {
	case vaultadmin.Unexpected:
		return false, 0, err
	case vaultadmin.Busy:
		return false, jitter.Longer(vaultadmin.BusyPause), nil
	}
	message := err.Error()
	if problem == vaultadmin.Denied || problem == vaultadmin.SetupMissing {
		if vault, _, err := r.vaultOf(o.parent); err == nil {
			message += r.setupStep(vault, o.parent)
		}
	}
	return false, jitter.Longer(waitInterval), r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
		setWaiting(o.rotation, s, string(problem), message+deletionNote(o.rotation))
	})
}

// setupStep is what to do about missing rights in Vault.
func (r *Reconciler) setupStep(vault Vault, parent *v1alpha1.SecureNotes) string {
	return ": the Vault administrator must run `" + r.SetupCommand(vault.Connection(), parent) + "`"
}

func (r *Reconciler) observe(ctx context.Context, kr *v1alpha1.KeyRotation) (observed, error) {
	o := observed{rotation: kr}
	var open []v1alpha1.KeyRotation
	var err error
	if !rotations.Ended(kr) {
		if open, err = rotations.ListOpen(ctx, r.Client, kr.Namespace, kr.Spec.SecureNotesRef.Name); err != nil {
			return o, err
		}
		o.queued = queuedBefore(kr, open)
	}
	parent := &v1alpha1.SecureNotes{}
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: kr.Namespace, Name: kr.Spec.SecureNotesRef.Name}, parent)
	if apierrors.IsNotFound(err) {
		return o, nil
	}
	if err != nil {
		return o, err
	}
	o.parent = parent
	o.givenUp = kr.DeletionTimestamp != nil && r.Now().Sub(kr.DeletionTimestamp.Time) >= giveUpAfter
	if rotations.Ended(kr) {
		return o, nil
	}
	o.ahead = ahead(kr, open)
	o.supersededBy = startedOther(kr, open, func(other *v1alpha1.KeyRotation) bool { return supersedes(other, kr) })
	o.inTheWay = startedOther(kr, open, func(other *v1alpha1.KeyRotation) bool { return supersedes(kr, other) })
	if !rotations.Started(kr) || o.supersededBy != nil {
		return o, nil
	}
	same, err := rotations.List(ctx, r.Client, kr.Namespace, parent.Name)
	if err != nil {
		return o, err
	}
	o.overtaken = overtaken(kr, parent, same)
	if kr.Status.ToVersion != nil && hasTurn(kr) {
		look := r.looks.Live(ctx, r.Live, r.Now, kr.UID)
		// An end that is recorded is not read again.
		if !rotations.IsTrue(kr, v1alpha1.ConditionReencrypted) {
			if o.reencrypt, err = r.reencryptJob(kr, parent).Read(ctx, r.Client, r.Live, look, r.Now()); err != nil {
				return o, err
			}
		}
		if !rotations.IsTrue(kr, v1alpha1.ConditionVerified) {
			if o.verify, err = r.verifyJob(kr, parent).Read(ctx, r.Client, r.Live, look, r.Now()); err != nil {
				return o, err
			}
		}
		o.retirementRecorded = retirement.Recorded(parent.Status.MasterKey, *kr.Status.ToVersion)
		if rotations.Compromise(kr) {
			if err := r.observeCompromise(ctx, &o); err != nil {
				return o, err
			}
		}
	}
	if needsKey(kr, o.reencrypt, o.verify) {
		key, err := r.readKey(ctx, parent)
		if failed := o.reencrypt.Phase == trustedjob.Failed || o.verify.Phase == trustedjob.Failed; err != nil && failed {
			return o, nil // what the Job said has to do
		}
		if err != nil {
			return o, err
		}
		o.key, o.newest = &key, rotations.NewestVersion(parent, same)
	}
	return o, nil
}

// same returns the rotations of kr's SecureNotes, past the cache.
func (r *Reconciler) same(ctx context.Context, kr *v1alpha1.KeyRotation) ([]v1alpha1.KeyRotation, error) {
	list := &v1alpha1.KeyRotationList{}
	if err := r.Live.List(ctx, list, client.InNamespace(kr.Namespace)); err != nil {
		return nil, err
	}
	var same []v1alpha1.KeyRotation
	for _, other := range list.Items {
		if other.Spec.SecureNotesRef.Name == kr.Spec.SecureNotesRef.Name {
			same = append(same, other)
		}
	}
	return same, nil
}

// reencryptJob and verifyJob are the Jobs of the current attempt.
func (r *Reconciler) reencryptJob(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) trustedjob.Expected {
	recorded := trustedjob.Identity{UID: types.UID(kr.Status.ReencryptJobUID), Digest: kr.Status.ReencryptJobDigest}
	return r.expected(kr, parent, operand.ReencryptJobName, recorded, kr.Status.Shards, operand.ReencryptJob)
}

func (r *Reconciler) verifyJob(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) trustedjob.Expected {
	recorded := trustedjob.Identity{UID: types.UID(kr.Status.VerifyJobUID), Digest: kr.Status.VerifyJobDigest}
	return r.expected(kr, parent, operand.VerifyJobName, recorded, 1, operand.VerifyJob)
}

type (
	jobBuilder func(*v1alpha1.SecureNotes, operand.Environment, operand.Work) *batchv1.Job
	jobName    func(name string, to int64, attempt int32) string
)

func (r *Reconciler) expected(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, name jobName, recorded trustedjob.Identity, pods int32, build jobBuilder) trustedjob.Expected {
	key := client.ObjectKey{Namespace: kr.Namespace, Name: name(parent.Name, *kr.Status.ToVersion, kr.Status.Attempt)}
	return trustedjob.Expected{Key: key, Owner: kr, Recorded: recorded, Pods: pods, Build: func(ctx context.Context) (*batchv1.Job, error) {
		vault, _, err := r.vaultOf(parent)
		if err != nil {
			return nil, err
		}
		least, err := trustedjob.LeastCPU(ctx, r.Live, parent)
		if err != nil {
			return nil, err
		}
		env := r.Environment
		env.Connection, env.DeploymentID = vault.Connection(), parent.Status.DeploymentID
		work := operand.Work{
			Owner: metav1.NewControllerRef(kr, v1alpha1.GroupVersion.WithKind("KeyRotation")), Name: key.Name,
			ToVersion: *kr.Status.ToVersion, Strategy: kr.Status.Strategy, Shards: kr.Status.Shards, LeastCPU: least,
		}
		if rotations.Compromise(kr) {
			work.EndSessions, work.Urgent = kr.Status.StartTime, true
		}
		return build(parent, env, work), nil
	}}
}

func (r *Reconciler) vaultOf(parent *v1alpha1.SecureNotes) (Vault, string, error) {
	if err := operand.CheckClusterID(parent, r.Environment.ClusterID); err != nil {
		return nil, "", err
	}
	name := operand.VaultConnection(parent)
	vault, ok := r.Vault(name)
	if !ok {
		return nil, "", vaultadmin.UnknownConnectionError(name)
	}
	return vault, config.TransitKeyName(r.Environment.ClusterID, parent.Namespace, parent.Name), nil
}

func (r *Reconciler) readKey(ctx context.Context, parent *v1alpha1.SecureNotes) (vaultadmin.KeyState, error) {
	vault, key, err := r.vaultOf(parent)
	if err != nil {
		return vaultadmin.KeyState{}, err
	}
	return vault.ReadKey(ctx, key)
}
