package securenotes

import (
	"context"
	"errors"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// ownJob is a Job that the SecureNotes controls.
type ownJob struct {
	name string
	// noun is what the Job is, for messages: a noun Job.
	noun string
	// jobUID and jobDigest point to where the created Job is recorded.
	jobUID, jobDigest *string
	// failed records why the Job cannot be created, and blocked why it is not yet.
	failed  func(message string)
	blocked func(cause.Cause)
}

func (j ownJob) record(job trustedjob.Identity) {
	*j.jobUID, *j.jobDigest = string(job.UID), job.Digest
}

func (j ownJob) recorded() trustedjob.Identity {
	return trustedjob.Identity{UID: types.UID(*j.jobUID), Digest: *j.jobDigest}
}

// createJob creates the Job and records it. It logs the keys and values.
func (r *Reconciler) createJob(ctx context.Context, s *scope, j ownJob, expected trustedjob.Expected, keysAndValues ...any) error {
	if err := operand.CheckResources(s.sn); err != nil {
		j.failed(err.Error())
		return nil
	}
	created, err := expected.Create(ctx, r.Client, r.Live)
	if foreign, ok := errors.AsType[*trustedjob.ForeignError](err); ok {
		j.failed(foreign.Error())
		return nil
	}
	switch c := cause.OfError(err); {
	case c.Known():
		j.blocked(c)
		s.retry("the API server refused a " + j.noun + " Job")
	case apierrors.IsConflict(err):
		return err // a quota that changed at the same time: nothing but the next pass creates the Job
	case stalecache.Is(err):
		s.retry(err.Error()) // the arrival of the Job in the cache causes a pass too
	case err != nil:
		return err
	default:
		log.FromContext(ctx).Info("created a Job", append([]any{"job", j.name}, keysAndValues...)...)
		j.record(created)
	}
	return nil
}

// clearJob clears the record of a Job that somebody deleted. The next pass creates another Job. If
// this pass created it and the operator then died, that Job would not be the recorded one.
func (r *Reconciler) clearJob(ctx context.Context, s *scope, j ownJob, expected trustedjob.Expected) error {
	gone, err := expected.Gone(ctx, r.Live)
	if gone {
		j.record(trustedjob.Identity{})
	}
	s.requeueAfter(time.Second, "a "+j.noun+" Job was deleted")
	return err
}

// deleteJobs deletes the Jobs of a component that the SecureNotes controls, except the one named
// keep.
func (r *Reconciler) deleteJobs(ctx context.Context, s *scope, component, keep string) error {
	list := &batchv1.JobList{}
	err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Labels(s.sn, component)))
	if err != nil {
		return err
	}
	for _, job := range list.Items {
		if job.Name == keep || job.DeletionTimestamp != nil || !metav1.IsControlledBy(&job, s.sn) {
			continue
		}
		if err := r.delete(ctx, &job, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return err
		}
	}
	return nil
}
