package securenotes

import (
	"context"
	"errors"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
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

// job returns the Job of a verification.
func (v verification) job(s *scope) ownJob {
	return ownJob{name: v.name, noun: "verification", jobUID: v.jobUID, jobDigest: v.jobDigest, failed: v.failed, blocked: s.blockVerification}
}

// verify continues a verification, and reports whether it has succeeded. It deletes the Jobs of all
// other verifications, which are earlier ones.
func (r *Reconciler) verify(ctx context.Context, s *scope, v verification) (verified bool, err error) {
	if err := r.deleteVerifications(ctx, s, v.name); err != nil {
		return false, err
	}
	expected, job := r.verificationJob(s, v), v.job(s)
	outcome, err := expected.Read(ctx, r.Client, r.Live, r.lookups.Live(ctx, r.Live, r.Now, s.sn.UID), s.now)
	if err != nil {
		return false, err
	}
	if outcome.Identity.Known() && *v.jobUID == "" {
		job.record(outcome.Identity)
	}
	switch outcome.Phase {
	case trustedjob.Absent:
		if *v.jobUID != "" {
			return false, r.clearJob(ctx, s, job, expected)
		}
		return false, r.createJob(ctx, s, job, expected, "version", v.to)
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
	return trustedjob.Expected{Key: key, Owner: s.sn, Recorded: v.job(s).recorded(), Pods: 1, Build: func(ctx context.Context) (*batchv1.Job, error) {
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

// deleteVerifications deletes the Jobs of all verifications except the one named keep.
func (r *Reconciler) deleteVerifications(ctx context.Context, s *scope, keep string) error {
	return r.deleteJobs(ctx, s, operand.ComponentVerify, keep)
}
