package securenotes

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// retirementRetry is how long a retirement that failed waits.
const retirementRetry = 15 * time.Minute

// retirement has the old versions whose time has come stop decrypting: everything is verified once
// more, in a fresh process, and only then is min_decryption_version raised. It is the only code that
// raises it.
func (r *Reconciler) retirement(ctx context.Context, s *scope) error {
	if s.key == nil || s.sn.Status.MasterKey == nil || !s.connected || !s.keyed {
		return nil
	}
	entry := dueRetirement(s)
	if entry == nil {
		return r.removeRetireJobs(ctx, s, "")
	}
	name := operand.RetireJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1))
	if err := r.removeRetireJobs(ctx, s, name); err != nil {
		return err
	}
	expected := retireJob(s, entry, name)
	outcome, err := keyrotation.ReadOutcome(ctx, r.Client, expected)
	if err != nil {
		return err
	}
	if outcome.UID != "" {
		entry.JobUID = string(outcome.UID)
	}
	switch outcome.Phase {
	case keyrotation.JobAbsent:
		return r.createRetireJob(ctx, s, entry, expected)
	case keyrotation.JobComplete:
		return r.retire(ctx, s, entry.ToVersion)
	case keyrotation.JobFailed, keyrotation.JobForeign:
		r.postpone(s, entry, outcome.Message)
	default:
		s.wake(jitter.Longer(retryInterval))
	}
	return nil
}

// dueRetirement gives the newest entry whose time has come: it covers every older one. It also asks
// to be woken for the next.
func dueRetirement(s *scope) *v1alpha1.PendingRetirement {
	var due *v1alpha1.PendingRetirement
	list := s.sn.Status.MasterKey.PendingRetirements
	for i := range list {
		if left := list[i].Due.Sub(s.now); left > 0 {
			s.wake(left)
		} else if due == nil || list[i].ToVersion > due.ToVersion {
			due = &list[i]
		}
	}
	return due
}

// retireJob is the verification before a retirement. Which Job of its name is believed, and why, is in
// the keyrotation package's comment.
func retireJob(s *scope, entry *v1alpha1.PendingRetirement, name string) keyrotation.Expected {
	key := client.ObjectKey{Namespace: s.sn.Namespace, Name: name}
	return keyrotation.Expected{Key: key, Owner: s.sn, Recorded: types.UID(entry.JobUID), Build: func() (*batchv1.Job, error) {
		return operand.VerifyJob(s.sn, s.env, operand.Work{
			Owner: metav1.NewControllerRef(s.sn, v1alpha1.GroupVersion.WithKind("SecureNotes")), Name: name, ToVersion: entry.ToVersion,
			// Only what wraps is at stake: no key may be left under a version that stops decrypting.
			Strategy: v1alpha1.StrategyRewrap,
		}), nil
	}}
}

func (r *Reconciler) createRetireJob(ctx context.Context, s *scope, entry *v1alpha1.PendingRetirement, expected keyrotation.Expected) error {
	if err := operand.CheckResources(s.sn); err != nil {
		r.postpone(s, entry, err.Error())
		return nil
	}
	uid, foreign, err := expected.Create(ctx, r.Client, r.Live)
	switch {
	case err != nil:
		return err
	case foreign != "":
		r.postpone(s, entry, foreign)
	case uid != "":
		entry.JobUID = string(uid)
	default:
		// Its arrival in the cache brings the object back here.
		s.wake(jitter.Longer(retryInterval))
	}
	return nil
}

// retire raises the floor and strikes off every entry that it covers.
func (r *Reconciler) retire(ctx context.Context, s *scope, to int64) error {
	vault, err := r.connect(s)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	if err := vault.RaiseMinDecryption(ctx, config.TransitKeyName(s.env.ClusterID, s.sn.Namespace, s.sn.Name), to); err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	status := s.sn.Status.MasterKey
	var left []v1alpha1.PendingRetirement
	for _, entry := range status.PendingRetirements {
		if entry.ToVersion > to {
			left = append(left, entry)
		}
	}
	status.PendingRetirements = left
	status.MinDecryptionFloor = max(status.MinDecryptionFloor, to)
	s.key.MinDecryption = max(s.key.MinDecryption, to)
	r.vaultChecks.drop(s.sn.UID)
	r.Recorder.Eventf(s.sn, nil, corev1.EventTypeNormal, "VersionsRetired", "Retire", "key versions below %d no longer decrypt", to)
	return nil
}

// postpone records why a retirement did not happen, and tries it again later under another name.
func (r *Reconciler) postpone(s *scope, entry *v1alpha1.PendingRetirement, message string) {
	entry.Message = fmt.Sprintf("attempt %d: %s", max(entry.Attempt, 1), message)
	entry.Attempt = max(entry.Attempt, 1) + 1
	entry.JobUID = ""
	entry.Due = metav1.NewTime(s.now.Add(retirementRetry))
	s.wake(retirementRetry)
	r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "RetirementFailed", "Retire", "%s", entry.Message)
}

// removeRetireJobs deletes the Jobs of retirements that are over, all but keep.
func (r *Reconciler) removeRetireJobs(ctx context.Context, s *scope, keep string) error {
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
