package securenotes

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// verificationHolds is how long the result of a verification counts.
const verificationHolds = 10 * time.Minute

// verification describes a Job that verifies, in a new process, that no data key is wrapped with a
// version below to. It precedes each retirement and each trim.
type verification struct {
	// name of the Job. Each attempt has its own.
	name string
	to   int64
	// urgent gives the Job priority over the users of the service.
	urgent bool
	// jobUID and jobDigest point to where the created Job is recorded.
	jobUID, jobDigest *string
	// failed records why the verification failed.
	failed func(message string)
}

func (v verification) record(job trustedjob.Identity) {
	*v.jobUID, *v.jobDigest = string(job.UID), job.Digest
}

// verify continues a verification, and reports whether it has succeeded. It deletes the Jobs of all
// other verifications, which are earlier ones.
func (r *Reconciler) verify(ctx context.Context, s *scope, v verification) (verified bool, err error) {
	if err := r.deleteVerifications(ctx, s, v.name); err != nil {
		return false, err
	}
	expected := r.verificationJob(s, v)
	outcome, err := expected.Read(ctx, r.Client, r.Live, r.lookups.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	if err != nil {
		return false, err
	}
	if outcome.Identity.Known() && *v.jobUID == "" {
		v.record(outcome.Identity)
	}
	switch outcome.Phase {
	case trustedjob.Absent:
		if *v.jobUID != "" {
			return false, r.clearVerification(ctx, s, v, expected)
		}
		return false, r.createVerification(ctx, s, v, expected)
	case trustedjob.Complete:
		if err := checkRecent(outcome.Completed, s.now); err != nil {
			v.failed(err.Error())
			return false, nil
		}
		return true, nil
	case trustedjob.Failed, trustedjob.Foreign:
		v.failed(outcome.Message)
	default:
		s.blockVerification(outcome.Cause)
		s.retry("a verification Job runs")
	}
	return false, nil
}

// blockVerification records why a verification makes no progress.
func (s *scope) blockVerification(c cause.Cause) {
	if c.Known() {
		s.jobTrouble = bad(c.Reason, "old key versions wait for a verification: "+c.String())
	}
}

// checkRecent returns an error for a verification that was completed too long ago. While the object
// was suspended, the operator stopped or Vault unreachable, a database may have been restored. The
// clocks of the operator and the cluster must agree too, so that a wrong one retires nothing early.
func checkRecent(completed *metav1.Time, now time.Time) error {
	if completed == nil {
		return errors.New("the verification Job has no completion time")
	}
	if now.Sub(completed.Time).Abs() <= verificationHolds {
		return nil
	}
	return fmt.Errorf("the verification was completed at %s, and it is %s now: the operator repeats it; if this message stays, compare the operator's clock with the cluster's",
		completed.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
}

// verificationJob returns the Job that is believed; see package trustedjob.
func (r *Reconciler) verificationJob(s *scope, v verification) trustedjob.Expected {
	key := client.ObjectKey{Namespace: s.sn.Namespace, Name: v.name}
	recorded := trustedjob.Identity{UID: types.UID(*v.jobUID), Digest: *v.jobDigest}
	return trustedjob.Expected{Key: key, Owner: s.sn, Recorded: recorded, Pods: 1, Build: func(ctx context.Context) (*batchv1.Job, error) {
		least, err := trustedjob.LeastCPU(ctx, r.Live, s.sn)
		if err != nil {
			return nil, err
		}
		return operand.VerifyJob(s.sn, s.env, operand.Work{
			Owner: metav1.NewControllerRef(s.sn, v1alpha1.GroupVersion.WithKind("SecureNotes")), Name: v.name, ToVersion: v.to,
			// Rewrap checks only the wrapped data keys, which are what a removed version would make
			// useless.
			Strategy: v1alpha1.StrategyRewrap, Urgent: v.urgent, LeastCPU: least,
		}), nil
	}}
}

// createVerification creates the Job and records it.
func (r *Reconciler) createVerification(ctx context.Context, s *scope, v verification, expected trustedjob.Expected) error {
	if err := operand.CheckResources(s.sn); err != nil {
		v.failed(err.Error())
		return nil
	}
	created, err := expected.Create(ctx, r.Client, r.Live)
	if foreign, ok := errors.AsType[*trustedjob.ForeignError](err); ok {
		v.failed(foreign.Error())
		return nil
	}
	switch c := cause.OfError(err); {
	case c.Known():
		s.blockVerification(c)
		s.retry("the API server refused a verification Job")
	case apierrors.IsConflict(err):
		return err // a quota that changed at the same time: nothing but the next pass creates the Job
	case stalecache.Is(err):
		s.retry(err.Error()) // the arrival of the Job in the cache causes a pass too
	case err != nil:
		return err
	default:
		log.FromContext(ctx).Info("created a Job", "job", v.name, "version", v.to)
		v.record(created)
	}
	return nil
}

// clearVerification clears the record of a Job that somebody deleted. The next pass creates another
// Job. If this pass created it and the operator then died, that Job would not be the recorded one.
func (r *Reconciler) clearVerification(ctx context.Context, s *scope, v verification, expected trustedjob.Expected) error {
	gone, err := expected.Gone(ctx, r.Live)
	if gone {
		v.record(trustedjob.Identity{})
	}
	s.requeueAfter(time.Second, "a verification Job was deleted")
	return err
}

// deleteVerifications deletes the Jobs of all verifications except the one named keep.
func (r *Reconciler) deleteVerifications(ctx context.Context, s *scope, keep string) error {
	list := &batchv1.JobList{}
	err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Labels(s.sn, operand.ComponentVerify)))
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
