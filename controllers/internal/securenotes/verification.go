package securenotes

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// verificationHolds is how long a verification is believed.
const verificationHolds = 10 * time.Minute

// verification shows, in a fresh process, that no key is left below version to. It comes before anything
// that takes old versions away.
type verification struct {
	// name of the Job, of this attempt alone.
	name string
	to   int64
	// urgent has the Job make way for nobody.
	urgent bool
	// jobUID and jobDigest are where the Job that was created is recorded.
	jobUID, jobDigest *string
	// failed records why it came to nothing.
	failed func(message string)
}

func (v verification) record(job trustedjob.Identity) {
	*v.jobUID, *v.jobDigest = string(job.UID), job.Digest
}

// verify goes on with a verification, and says whether it has succeeded. Jobs of others that are over are
// removed.
func (r *Reconciler) verify(ctx context.Context, s *scope, v verification) (verified bool, err error) {
	if err := r.removeVerifications(ctx, s, v.name); err != nil {
		return false, err
	}
	expected := r.verificationJob(s, v)
	outcome, err := expected.Read(ctx, r.Client, r.Live, r.looks.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	if err != nil {
		return false, err
	}
	if outcome.Identity.Known() && *v.jobUID == "" {
		v.record(outcome.Identity)
	}
	switch outcome.Phase {
	case trustedjob.Absent:
		if *v.jobUID != "" {
			return false, r.forgetVerification(ctx, s, v, expected)
		}
		return false, r.createVerification(ctx, s, v, expected)
	case trustedjob.Complete:
		if trouble := outdated(outcome.Completed, s.now); trouble != "" {
			v.failed(trouble)
			return false, nil
		}
		return true, nil
	case trustedjob.Failed, trustedjob.Foreign:
		v.failed(outcome.Message)
	default:
		s.hindered(outcome.Cause)
		s.wake(jitter.Longer(retryInterval))
	}
	return false, nil
}

// hindered records what keeps a verification from its end.
func (s *scope) hindered(c cause.Cause) {
	if c.Known() {
		s.jobTrouble = bad(c.Reason, "old key versions wait for a verification: "+c.String())
	}
}

// outdated says why a verification that was completed then is not believed now. What it found may have changed: while
// the object was suspended, the operator down or Vault away, a database may have been restored. And one clock that is
// wrong, the operator's, must not take versions away before their time: the cluster's must agree.
func outdated(completed *metav1.Time, now time.Time) string {
	if completed == nil {
		return "the verification does not say when it was completed"
	}
	if now.Sub(completed.Time).Abs() <= verificationHolds {
		return ""
	}
	return fmt.Sprintf("the verification was completed at %s, too far from now, %s: it is done once more; if that stays so, compare the operator's clock with the cluster's",
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
			// Only what wraps is at stake: no key may be left under a version that is taken away.
			Strategy: v1alpha1.StrategyRewrap, Urgent: v.urgent, LeastCPU: least,
		}), nil
	}}
}

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
		s.hindered(c)
		s.wake(jitter.Longer(retryInterval))
	case stalecache.Is(err):
		// The Job's arrival in the cache brings the object back here.
		s.wake(jitter.Longer(retryInterval))
	case err != nil:
		return err
	default:
		v.record(created)
	}
	return nil
}

// forgetVerification strikes a Job that somebody has deleted from the record. Another one is made with the next pass, when
// that is recorded: else the Job of an operator that died then would not be the recorded one, and not be believed.
func (r *Reconciler) forgetVerification(ctx context.Context, s *scope, v verification, expected trustedjob.Expected) error {
	gone, err := expected.Gone(ctx, r.Live)
	if gone {
		v.record(trustedjob.Identity{})
	}
	s.wake(time.Second)
	return err
}

// removeVerifications deletes the Jobs of verifications that are over, all but keep.
func (r *Reconciler) removeVerifications(ctx context.Context, s *scope, keep string) error {
	list := &batchv1.JobList{}
	err := r.Client.List(ctx, list, client.InNamespace(s.sn.Namespace), client.MatchingLabels(operand.Labels(s.sn, operand.ComponentVerify)))
	if err != nil {
		return err
	}
	for _, job := range list.Items {
		if job.Name == keep || job.DeletionTimestamp != nil || !metav1.IsControlledBy(&job, s.sn) {
			continue
		}
		err := r.Client.Delete(ctx, &job, client.PropagationPolicy(metav1.DeletePropagationBackground), client.Preconditions{UID: &job.UID})
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}
