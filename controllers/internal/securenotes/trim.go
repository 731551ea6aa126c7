package securenotes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// trim has the versions destroyed that spec.keyRotation.trim gives up: once more after everything was verified, for
// a database that was restored may need them, and never while a floor was lowered by hand or a rotation is at work,
// which are signs of such a restore.
func (r *Reconciler) trim(ctx context.Context, s *scope) error {
	followVault(s)
	entry, before := dueTrim(s)
	if entry == nil {
		return r.removeVerifications(ctx, s, "")
	}
	verified, err := r.verify(ctx, s, verification{
		name: operand.TrimJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1)), to: entry.ToVersion, jobUID: &entry.JobUID, jobDigest: &entry.JobDigest,
		failed: func(message string) { r.postponeTrim(s, entry, bad(v1alpha1.ReasonTrimFailed, message)) },
	})
	if err != nil || !verified {
		return err
	}
	return r.destroy(ctx, s, entry, before)
}

// followVault brings the list of retirements to what Vault says.
func followVault(s *scope) {
	status := s.sn.Status.MasterKey
	if s.key.MinAvailable < status.MinAvailableVersion {
		// Vault was restored to a time at which it still had what was destroyed since.
		status.Retirements = retirement.AddPast(status.Retirements, status.MinAvailableVersion, s.now)
	}
	status.Retirements = slices.DeleteFunc(status.Retirements, func(r v1alpha1.Retirement) bool { return r.ToVersion <= s.key.MinAvailable })
	retirement.Restart(status.Retirements, s.key.MinDecryption, s.now)
}

// dueTrim gives the newest retirement that is old enough, and the version before which all is to be destroyed: 0
// where it is nil. It also asks to be woken for the next, and forgets what failed where nothing is to be done any more.
func dueTrim(s *scope) (due *v1alpha1.Retirement, before int64) {
	list := s.sn.Status.MasterKey.Retirements
	policy := trimPolicy(s.sn)
	for i := range list {
		if policy == nil || s.now.Before(list[i].Time.Add(operand.TrimAfter(policy))) || below(policy, list[i].ToVersion) <= max(s.key.MinAvailable, 1) {
			list[i].Reason, list[i].Message, list[i].RetryTime = "", "", nil
		}
	}
	if policy == nil || floorsAsSet(s).known() {
		return nil, 0
	}
	if slices.ContainsFunc(s.rotationList, func(kr v1alpha1.KeyRotation) bool { return !rotations.Ended(&kr) }) {
		return nil, 0 // its end brings the object back here
	}
	due, wait := retirement.DueTrim(list, s.now, operand.TrimAfter(policy), func(to int64) bool { return below(policy, to) > max(s.key.MinAvailable, 1) })
	if wait > 0 {
		s.wake(wait)
	}
	if due == nil {
		return nil, 0
	}
	return due, below(policy, due.ToVersion)
}

func trimPolicy(sn *v1alpha1.SecureNotes) *v1alpha1.Trim {
	if sn.Spec.KeyRotation == nil {
		return nil
	}
	return sn.Spec.KeyRotation.Trim
}

// below is the version before which all may be destroyed once nothing before to decrypts.
func below(policy *v1alpha1.Trim, to int64) int64 {
	if policy.KeepFromVersion != nil {
		return min(to, *policy.KeepFromVersion)
	}
	return to
}

// keptInVain tells that the policy keeps a version that was destroyed already.
func keptInVain(s *scope) finding {
	policy := trimPolicy(s.sn)
	if policy == nil || policy.KeepFromVersion == nil || s.key == nil || *policy.KeepFromVersion >= s.key.MinAvailable {
		return finding{}
	}
	return bad(v1alpha1.ReasonTrimFailed, fmt.Sprintf("spec.keyRotation.trim.keepFromVersion is %d, but the versions below %d are destroyed already: a backup that needs one cannot be read",
		*policy.KeepFromVersion, s.key.MinAvailable))
}

// destroy has the versions before before destroyed, if the object, read past the cache, still wants it so.
func (r *Reconciler) destroy(ctx context.Context, s *scope, entry *v1alpha1.Retirement, before int64) error {
	latest := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), latest); err != nil {
		return client.IgnoreNotFound(err)
	}
	if latest.UID != s.sn.UID || latest.Generation != s.sn.Generation || latest.DeletionTimestamp != nil {
		s.wake(jitter.Longer(retryInterval))
		return nil
	}
	vault, err := r.connect(s)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	status := s.sn.Status.MasterKey
	err = vault.Trim(ctx, r.deploymentOf(s), before, status.MinDecryptionFloor)
	if p := vaultadmin.ProblemOf(err); p == vaultadmin.Taken || p == vaultadmin.Busy {
		return r.vaultTrouble(ctx, s, err)
	}
	if err != nil {
		// Nothing is wrong with the service because of this, and if Vault is away, that is found out elsewhere.
		why := bad(v1alpha1.ReasonTrimFailed, err.Error())
		if vaultadmin.OfFeature(err) {
			why = r.rightsMissing(s, err)
			why.message += ", or trim be removed from spec.keyRotation"
		}
		r.postponeTrim(s, entry, why)
		return nil
	}
	var left []v1alpha1.Retirement
	for _, past := range status.Retirements {
		if past.ToVersion > before {
			// Kept, or not yet due: what was verified now says nothing of then.
			past.Attempt, past.RetryTime, past.Reason, past.Message = max(past.Attempt, 1)+1, nil, "", ""
			past.JobUID, past.JobDigest = "", ""
			left = append(left, past)
		}
	}
	status.Retirements = left
	s.key.MinAvailable = max(s.key.MinAvailable, before)
	r.vaultChecks.drop(s.sn.UID)
	s.note(corev1.EventTypeNormal, "VersionsDestroyed", "Trim", fmt.Sprintf("key versions below %d were destroyed in Vault", before))
	return nil
}

// postponeTrim records why nothing was destroyed, and when it is tried again.
func (r *Reconciler) postponeTrim(s *scope, entry *v1alpha1.Retirement, why finding) {
	s.wake(retirement.PostponeTrim(s.sn.Status.MasterKey.Retirements, entry, s.now, why.reason, why.message))
	s.warn("TrimFailed", "Trim", entry.Message)
}
