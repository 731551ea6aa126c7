package securenotes

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// trim destroys the key versions that spec.keyRotation.trim gives up, after a Job has verified once
// more that nothing needs them. It waits while a retirement is due, while a rotation runs, while
// somebody has lowered the floor, because a restored database may need the old versions, and while
// a backup may need them.
func (r *Reconciler) trim(ctx context.Context, s *scope) error {
	if !s.keyUsable() || s.retirementDue {
		return nil
	}
	followVault(s)
	clearTrimFailures(s)
	if err := r.readForTrim(ctx, s); err != nil {
		return err
	}
	entry, limit := dueTrim(s)
	if entry == nil {
		return r.deleteVerifications(ctx, s, "")
	}
	verified, err := r.verify(ctx, s, verification{
		name: operand.TrimJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1)), to: entry.ToVersion, jobUID: &entry.JobUID, jobDigest: &entry.JobDigest,
		failed: func(message string) { postponeTrim(s, entry, bad(v1alpha1.ReasonTrimFailed, message)) },
	})
	if err != nil || !verified {
		return err
	}
	return r.destroyVersions(ctx, s, entry, limit)
}

// followVault adapts the list of past retirements to the versions that Vault has.
func followVault(s *scope) {
	status := s.sn.Status.MasterKey
	if s.key.MinAvailable < status.MinAvailableVersion {
		// Vault was restored from a backup that has the destroyed versions.
		status.Retirements = retirement.AddPast(status.Retirements, status.MinAvailableVersion, s.now)
	}
	status.Retirements = slices.DeleteFunc(status.Retirements, func(r v1alpha1.Retirement) bool { return r.ToVersion <= s.key.MinAvailable })
	retirement.Restart(status.Retirements, s.key.MinDecryption, s.now)
}

// clearTrimFailures removes the failures of trims that are no longer wanted.
func clearTrimFailures(s *scope) {
	policy, list := trimPolicy(s.sn), s.sn.Status.MasterKey.Retirements
	for i := range list {
		if policy == nil || s.now.Before(list[i].Time.Add(operand.TrimAfter(policy))) || !hasVersionsToTrim(s, policy, list[i].ToVersion) {
			list[i].Reason, list[i].Message, list[i].RetryTime = "", "", nil
		}
	}
}

// dueTrim returns the newest retirement that is old enough for a trim and that no backup holds. All
// versions below limit are to be destroyed. It also records which trim is held, and asks for a pass
// when the next trim is due.
func dueTrim(s *scope) (due *v1alpha1.Retirement, limit int64) {
	policy := trimPolicy(s.sn)
	if policy == nil || floorChanged(s).known() {
		return nil, 0
	}
	if slices.ContainsFunc(s.rotationList, func(kr v1alpha1.KeyRotation) bool { return !rotations.Ended(&kr) }) {
		return nil, 0 // the end of the rotation causes another pass
	}
	list, after := s.sn.Status.MasterKey.Retirements, operand.TrimAfter(policy)
	clearHolds(list)
	due, wait := retirement.DueTrim(list, s.now, after, func(floor int64) bool { return hasVersionsToTrim(s, policy, floor) })
	if wait > 0 {
		s.requeueAfter(wait, "the next trim of key versions")
	}
	if due == nil {
		return nil, 0
	}
	if why := trimHold(s, trimLimit(policy, due.ToVersion)); why != "" {
		holdTrim(due, why)
		// No backup may need the versions of an older retirement.
		due, _ = retirement.DueTrim(list, s.now, after, func(floor int64) bool {
			return hasVersionsToTrim(s, policy, floor) && trimHold(s, trimLimit(policy, floor)) == ""
		})
	}
	if due == nil {
		return nil, 0
	}
	return due, trimLimit(policy, due.ToVersion)
}

func trimPolicy(sn *v1alpha1.SecureNotes) *v1alpha1.Trim {
	if sn.Spec.KeyRotation == nil {
		return nil
	}
	return sn.Spec.KeyRotation.Trim
}

// trimLimit returns the oldest version that a trim keeps, after the versions below floor were
// retired.
func trimLimit(policy *v1alpha1.Trim, floor int64) int64 {
	return min(floor, ptr.Deref(policy.KeepFromVersion, floor))
}

// hasVersionsToTrim reports whether Vault has versions that a trim destroys, after the versions
// below floor were retired.
func hasVersionsToTrim(s *scope, policy *v1alpha1.Trim, floor int64) bool {
	return trimLimit(policy, floor) > max(s.key.MinAvailable, 1)
}

// destroyVersions destroys the versions below limit, unless the object has changed since it was
// cached.
func (r *Reconciler) destroyVersions(ctx context.Context, s *scope, entry *v1alpha1.Retirement, limit int64) error {
	latest := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(s.sn), latest); err != nil {
		return client.IgnoreNotFound(err)
	}
	if latest.UID != s.sn.UID || latest.Generation != s.sn.Generation || latest.DeletionTimestamp != nil {
		s.retry("the SecureNotes has changed since it was cached")
		return nil
	}
	if err := r.notBesideRestore(ctx, s); err != nil {
		return err
	}
	hold, err := r.liveTrimHold(ctx, s, latest, limit)
	if err != nil {
		return err
	}
	if hold != "" {
		holdTrim(entry, hold)
		s.retry("a backup that is not cached yet holds the trim")
		return nil
	}
	vault, err := r.connect(s)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	err = vault.Trim(ctx, r.deploymentOf(s), limit, s.sn.Status.MasterKey.MinDecryptionFloor)
	if p := vaultadmin.ProblemOf(err); p == vaultadmin.Taken || p == vaultadmin.Busy {
		return r.vaultTrouble(ctx, s, err)
	}
	if err != nil {
		// The service works without the trim. The phase vault reports an unreachable Vault.
		why := bad(v1alpha1.ReasonTrimFailed, err.Error())
		if vaultadmin.OfFeature(err) {
			why = s.rightsMissing(err)
			why.message += ", or remove trim from spec.keyRotation"
		}
		postponeTrim(s, entry, why)
		return nil
	}
	recordTrim(s, limit)
	r.vaultChecks.drop(s.sn.UID)
	s.event(corev1.EventTypeNormal, "VersionsDestroyed", "Trim", fmt.Sprintf("key versions below %d were destroyed in Vault", limit))
	return nil
}

// recordTrim removes the retirements whose versions were destroyed. The others need another
// verification, because this one says nothing about a later time.
func recordTrim(s *scope, limit int64) {
	status := s.sn.Status.MasterKey
	var left []v1alpha1.Retirement
	for _, past := range status.Retirements {
		if past.ToVersion > limit {
			past.Attempt, past.RetryTime, past.Reason, past.Message = max(past.Attempt, 1)+1, nil, "", ""
			past.JobUID, past.JobDigest = "", ""
			left = append(left, past)
		}
	}
	status.Retirements = left
	s.key.MinAvailable = max(s.key.MinAvailable, limit)
}

// postponeTrim records why nothing was destroyed, and when it is tried again.
func postponeTrim(s *scope, entry *v1alpha1.Retirement, why finding) {
	wait := retirement.PostponeTrim(s.sn.Status.MasterKey.Retirements, entry, s.now, why.reason, why.message)
	s.requeueAfter(wait, "the next attempt of a failed trim")
	s.warn("TrimFailed", "Trim", entry.Message)
}
