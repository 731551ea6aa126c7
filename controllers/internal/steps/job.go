package steps

import (
	"cmp"
	"context"
	"errors"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// Job is a Job of an operation, and how its steps differ from those of another one.
type Job[R, O any] struct {
	// Name is the part of the steps' names, and Noun what people read.
	Name, Noun string
	// Running is the reason while the Job runs, and DoneStep the step that records its success.
	Running, DoneStep string
	// Pending reports whether the success is not recorded yet, and Record records it.
	Pending func(O) bool
	Record  func(context.Context, R, O) error

	// Outcome returns the observed outcome of the Job.
	Outcome func(O) trustedjob.Outcome
	// Recorded returns the recorded identity of the Job, and SetIdentity records one.
	Recorded    func(O) trustedjob.Identity
	SetIdentity func(context.Context, R, O, trustedjob.Identity) error
	// Expected returns the Job that is believed.
	Expected func(R, O) trustedjob.Expected
	// Clients returns what writes, and what reads past the cache.
	Clients func(R) (client.Writer, client.Reader)
	// Fail records that the operation has failed.
	Fail func(context.Context, R, O, Decision) error
	// Blocked decides about a Job that something blocks which a person can correct.
	Blocked func(O, cause.Cause, string) (Decision, bool)
	// KeyName returns the name of the Job.
	KeyName func(O) string
}

// Steps returns the steps of a Job: it is created and recorded, and its success is recorded. A Job
// that somebody has deleted is created again. Package trustedjob says which Job is believed.
func (j Job[R, O]) Steps() []Step[R, O] {
	absent := func(o O) bool { return j.Pending(o) && j.Outcome(o).Phase == trustedjob.Absent }
	return []Step[R, O]{
		{
			Name: "Record" + j.Name + "Job", Job: j.KeyName,
			Due: When(func(o O) bool { return j.Outcome(o).Identity.Known() && !j.Recorded(o).Known() }),
			Do: func(ctx context.Context, r R, o O) error {
				return j.SetIdentity(ctx, r, o, j.Outcome(o).Identity)
			},
		},
		{
			Name: "Forget" + j.Name + "Job", Job: j.KeyName,
			Due: When(func(o O) bool { return absent(o) && j.Recorded(o).Known() }),
			Do:  j.forget,
		},
		{
			Name: "Create" + j.Name, Job: j.KeyName,
			Due: When(absent),
			Do:  j.create,
		},
		{
			Name: j.DoneStep, Job: j.KeyName,
			Due: When(func(o O) bool { return j.Pending(o) && j.Outcome(o).Phase == trustedjob.Complete }),
			Do:  j.Record,
		},
		{
			Name: "Await" + j.Name, Job: j.KeyName,
			Due: func(o O) (Decision, bool) {
				if !j.Pending(o) {
					return NotDue()
				}
				return j.await(o)
			},
		},
	}
}

// await decides what becomes of an operation whose Job has not succeeded.
func (j Job[R, O]) await(o O) (Decision, bool) {
	outcome := j.Outcome(o)
	switch {
	case outcome.Phase == trustedjob.Foreign:
		return foreignJob(outcome.Message)
	case outcome.Phase == trustedjob.Failed && outcome.Reason == config.ReasonSuperseded:
		return FailingForGood(outcome.Reason, "%s", outcome.Message)
	case outcome.Phase == trustedjob.Failed && outcome.Reason == "":
		return Failing(v1alpha1.ReasonJobFailed, "%s", outcome.Message)
	case outcome.Phase == trustedjob.Failed:
		return Failing(outcome.Reason, "%s", outcome.Message)
	case outcome.Cause.Known():
		return j.Blocked(o, outcome.Cause, j.Running)
	case outcome.LastFailure != "":
		return Waiting(j.Running, "the %s Job tries again: %s", j.Noun, outcome.LastFailure)
	default:
		return Waiting(j.Running, "the %s Job is running", j.Noun)
	}
}

func foreignJob(message string) (Decision, bool) {
	return Failing(v1alpha1.ReasonNameConflict, "%s", message)
}

// create creates the Job and records its identity.
func (j Job[R, O]) create(ctx context.Context, r R, o O) error {
	writer, live := j.Clients(r)
	created, err := j.Expected(r, o).Create(ctx, writer, live)
	if foreign, ok := errors.AsType[*trustedjob.ForeignError](err); ok {
		d, _ := foreignJob(foreign.Error())
		return cmp.Or(j.Fail(ctx, r, o, d), ErrNotTaken)
	}
	if err != nil {
		return err
	}
	return j.SetIdentity(ctx, r, o, created)
}

// forget clears the record of a Job that somebody has deleted, before another one is created. If
// the operator died between creating and recording that one, the record would still name the
// deleted Job, and the new one would not be believed.
func (j Job[R, O]) forget(ctx context.Context, r R, o O) error {
	_, live := j.Clients(r)
	expected := j.Expected(r, o)
	absent, err := expected.Gone(ctx, live)
	if err != nil {
		return err
	}
	if !absent {
		return stalecache.New("Job", expected.Key.Name, "it exists")
	}
	return j.SetIdentity(ctx, r, o, trustedjob.Identity{})
}
