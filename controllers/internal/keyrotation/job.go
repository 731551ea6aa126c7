package keyrotation

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// job is one of the two Jobs of a rotation, and how its steps differ from those of the other one.
type job struct {
	// name is the part of the steps' names, and noun what people read.
	name, noun string
	// running is the reason while the Job runs, and done the step and the condition once it has
	// succeeded.
	running, doneStep, doneCondition string
	// record records the success.
	record func(context.Context, *Reconciler, observed) error

	// outcome returns where the observed outcome of the Job is kept, and identity returns where the
	// status records the UID and the digest of the Job.
	outcome  func(*observed) *trustedjob.Outcome
	identity func(*v1alpha1.KeyRotationStatus) (uid, digest *string)
	// jobName, pods and build are for the Job itself.
	jobName func(name string, to int64, attempt int32) string
	pods    func(*v1alpha1.KeyRotationStatus) int32
	build   func(*v1alpha1.SecureNotes, operand.Environment, operand.Work) *batchv1.Job
}

// steps returns the steps of the Job.
func (j job) steps() []step {
	return steps.Job[*Reconciler, observed]{
		Name: j.name, Noun: j.noun, Running: j.running, DoneStep: j.doneStep, Record: j.record,
		Pending:     func(o observed) bool { return !rotations.IsTrue(o.rotation, j.doneCondition) },
		Outcome:     func(o observed) trustedjob.Outcome { return *j.outcome(&o) },
		Recorded:    func(o observed) trustedjob.Identity { return j.recorded(o.rotation) },
		SetIdentity: j.setIdentity,
		Expected:    func(r *Reconciler, o observed) trustedjob.Expected { return j.expected(r, o.rotation, o.parent) },
		Clients:     func(r *Reconciler) (client.Writer, client.Reader) { return r.Client, r.Live },
		Fail:        func(ctx context.Context, r *Reconciler, o observed, d decision) error { return r.fail(ctx, o, d) },
		Blocked:     blocked,
		KeyName:     func(o observed) string { return j.key(o.rotation).Name },
	}.Steps()
}

// setIdentity records the identity of the Job.
func (j job) setIdentity(ctx context.Context, r *Reconciler, o observed, identity trustedjob.Identity) error {
	return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) {
		uid, digest := j.identity(s)
		*uid, *digest = string(identity.UID), identity.Digest
	})
}

// recorded returns the recorded identity of the Job.
func (j job) recorded(kr *v1alpha1.KeyRotation) trustedjob.Identity {
	uid, digest := j.identity(&kr.Status)
	return trustedjob.Identity{UID: types.UID(*uid), Digest: *digest}
}

// key returns the name of the Job of the current attempt.
func (j job) key(kr *v1alpha1.KeyRotation) client.ObjectKey {
	return client.ObjectKey{Namespace: kr.Namespace, Name: j.jobName(kr.Spec.SecureNotesRef.Name, *kr.Status.ToVersion, kr.Status.Attempt)}
}

// expected returns the Job of the current attempt.
func (j job) expected(r *Reconciler, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) trustedjob.Expected {
	key := j.key(kr)
	return trustedjob.Expected{Key: key, Owner: kr, Recorded: j.recorded(kr), Pods: j.pods(&kr.Status), Build: func(ctx context.Context) (*batchv1.Job, error) {
		vault, err := r.vaultOf(parent)
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
		return j.build(parent, env, work), nil
	}}
}
