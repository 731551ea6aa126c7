package securenotes

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const (
	// maxRetirements that are remembered, each until what is older is destroyed.
	maxRetirements = 64
	// trimRetry is how long a trim that failed waits the first time, and maxTrimRetry how long at the most. Nothing
	// is urgent about it, and each attempt unwraps every owner's key.
	trimRetry, maxTrimRetry = time.Hour, 24 * time.Hour
)

// withRetirement adds the retirement of every version before to, unless it is there. When there are too many, the one
// that another followed soonest goes, the latest of these: the other one covers it, a little later.
func withRetirement(list []v1alpha1.Retirement, to int64, now time.Time) []v1alpha1.Retirement {
	if slices.ContainsFunc(list, func(r v1alpha1.Retirement) bool { return r.ToVersion == to }) {
		return list
	}
	list = append(slices.Clone(list), v1alpha1.Retirement{ToVersion: to, Time: metav1.NewTime(now)})
	slices.SortFunc(list, func(a, b v1alpha1.Retirement) int { return cmp.Compare(a.ToVersion, b.ToVersion) })
	if len(list) <= maxRetirements {
		return list
	}
	covered := 0
	for i := range list[:len(list)-1] {
		if list[i+1].Time.Sub(list[i].Time.Time) <= list[covered+1].Time.Sub(list[covered].Time.Time) {
			covered = i
		}
	}
	return slices.Delete(list, covered, covered+1)
}

// decryptedAgain has the time begin anew of every version that decrypts, or did until now, although it was retired:
// whoever lowered the floor has restored something, and what is made of it, backups included, is under that version.
func decryptedAgain(list []v1alpha1.Retirement, floor int64, now time.Time) {
	for i := range list {
		// A status that changes with every pass would be a pass without end.
		if list[i].ToVersion > floor && now.Sub(list[i].Time.Time) > time.Minute {
			list[i].Time = metav1.NewTime(now)
		}
	}
}

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
		status.Retirements = withRetirement(status.Retirements, status.MinAvailableVersion, s.now)
	}
	status.Retirements = slices.DeleteFunc(status.Retirements, func(r v1alpha1.Retirement) bool { return r.ToVersion <= s.key.MinAvailable })
	decryptedAgain(status.Retirements, s.key.MinDecryption, s.now)
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
	if slices.ContainsFunc(s.rotationList, func(kr v1alpha1.KeyRotation) bool { return !keyrotation.Ended(&kr) }) {
		return nil, 0 // its end brings the object back here
	}
	for i := range list {
		at := list[i].Time.Add(operand.TrimAfter(policy))
		if retry := list[i].RetryTime; retry != nil && retry.After(at) {
			at = retry.Time
		}
		if left := at.Sub(s.now); left > 0 {
			s.wake(left)
		} else if below(policy, list[i].ToVersion) > max(s.key.MinAvailable, 1) && (due == nil || list[i].ToVersion > due.ToVersion) {
			due = &list[i]
		}
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
	for _, retirement := range status.Retirements {
		if retirement.ToVersion > before {
			// Kept, or not yet due: what was verified now says nothing of then.
			retirement.Attempt, retirement.RetryTime, retirement.Reason, retirement.Message = max(retirement.Attempt, 1)+1, nil, "", ""
			retirement.JobUID, retirement.JobDigest = "", ""
			left = append(left, retirement)
		}
	}
	status.Retirements = left
	s.key.MinAvailable = max(s.key.MinAvailable, before)
	r.vaultChecks.drop(s.sn.UID)
	s.note(corev1.EventTypeNormal, "VersionsDestroyed", "Trim", fmt.Sprintf("key versions below %d were destroyed in Vault", before))
	return nil
}

// postponeTrim records why nothing was destroyed, and tries it again later with a Job of another name. The older
// retirements wait, too: what is in the way of one is in the way of all.
func (r *Reconciler) postponeTrim(s *scope, entry *v1alpha1.Retirement, why finding) {
	attempt := max(entry.Attempt, 1)
	retry := min(trimRetry<<min(attempt-1, 10), maxTrimRetry)
	list := s.sn.Status.MasterKey.Retirements
	for i := range list {
		list[i].RetryTime = new(metav1.NewTime(s.now.Add(retry)))
	}
	entry.Reason, entry.Message = why.reason, fmt.Sprintf("attempt %d: %s", attempt, why.message)
	entry.Attempt = attempt + 1
	entry.JobUID, entry.JobDigest = "", ""
	s.wake(retry)
	s.warn("TrimFailed", "Trim", entry.Message)
}
