package keyrotation

import (
	"cmp"
	"context"
	"errors"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
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

// jobSteps returns the steps of a Job: it is created and recorded, and its success is recorded. A
// Job that somebody has deleted is created again. Package trustedjob says which Job is believed.
func jobSteps(j job) []step {
	phase := func(o observed) trustedjob.Phase { return j.outcome(&o).Phase }
	pending := func(o observed) bool { return !rotations.IsTrue(o.rotation, j.doneCondition) }
	name := func(o observed) string { return j.key(o.rotation).Name }
	return []step{
		{
			name: "Record" + j.name + "Job", job: name,
			due: when(func(o observed) bool { return j.outcome(&o).Identity.Known() && !j.recorded(o.rotation).Known() }),
			do: func(ctx context.Context, r *Reconciler, o observed) error {
				return j.setIdentity(ctx, r, o, j.outcome(&o).Identity)
			},
		},
		{
			name: "Forget" + j.name + "Job", job: name,
			due: when(func(o observed) bool {
				return pending(o) && phase(o) == trustedjob.Absent && j.recorded(o.rotation).Known()
			}),
			do: j.forget,
		},
		{
			name: "Create" + j.name, job: name,
			due: when(func(o observed) bool { return pending(o) && phase(o) == trustedjob.Absent }),
			do:  j.create,
		},
		{
			name: j.doneStep, job: name,
			due: when(func(o observed) bool { return pending(o) && phase(o) == trustedjob.Complete }),
			do:  j.record,
		},
		{
			name: "Await" + j.name, job: name,
			due: func(o observed) (decision, bool) {
				if !pending(o) {
					return notDue()
				}
				return j.await(o)
			},
		},
	}
}

// await decides what becomes of a rotation whose Job has not succeeded.
func (j job) await(o observed) (decision, bool) {
	outcome := j.outcome(&o)
	switch {
	case outcome.Phase == trustedjob.Foreign:
		return foreignJob(outcome.Message)
	case outcome.Phase == trustedjob.Failed && outcome.Reason == config.ReasonSuperseded:
		return failingForGood(outcome.Reason, "%s", outcome.Message)
	case outcome.Phase == trustedjob.Failed && outcome.Reason == "":
		return failing(v1alpha1.ReasonJobFailed, "%s", outcome.Message)
	case outcome.Phase == trustedjob.Failed:
		return failing(outcome.Reason, "%s", outcome.Message)
	case outcome.Cause.Known():
		return blocked(o, outcome.Cause, j.running)
	default:
		return waiting(j.running, "the %s Job is running", j.noun)
	}
}

func foreignJob(message string) (decision, bool) {
	return failing(v1alpha1.ReasonNameConflict, "%s", message)
}

// create creates the Job and records its identity.
func (j job) create(ctx context.Context, r *Reconciler, o observed) error {
	created, err := j.expected(r, o.rotation, o.parent).Create(ctx, r.Client, r.Live)
	if foreign, ok := errors.AsType[*trustedjob.ForeignError](err); ok {
		d, _ := foreignJob(foreign.Error())
		return cmp.Or(r.fail(ctx, o, d), errNotTaken)
	}
	if err != nil {
		return err
	}
	return j.setIdentity(ctx, r, o, created)
}

// forget clears the record of a Job that somebody has deleted, before another one is created. If
// the operator died between creating and recording that one, the record would still name the
// deleted Job, and the new one would not be believed.
func (j job) forget(ctx context.Context, r *Reconciler, o observed) error {
	expected := j.expected(r, o.rotation, o.parent)
	absent, err := expected.Gone(ctx, r.Live)
	if err != nil {
		return err
	}
	if !absent {
		return stalecache.New("Job", expected.Key.Name, "it exists")
	}
	return j.setIdentity(ctx, r, o, trustedjob.Identity{})
}

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
