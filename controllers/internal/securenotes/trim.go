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
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/keyrotation"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

const (
	// maxRetirements that are remembered. The oldest is forgotten first: a later one covers it.
	maxRetirements = 16
	// trimRetry is how long a trim that failed waits. Nothing is urgent about it, and each attempt reads
	// every owner's key.
	trimRetry = time.Hour
)

// withRetirement adds the retirement of every version before to, unless it is there.
func withRetirement(list []v1alpha1.Retirement, to int64, now time.Time) []v1alpha1.Retirement {
	if slices.ContainsFunc(list, func(r v1alpha1.Retirement) bool { return r.ToVersion == to }) {
		return list
	}
	list = append(slices.Clone(list), v1alpha1.Retirement{ToVersion: to, Time: metav1.NewTime(now)})
	slices.SortFunc(list, func(a, b v1alpha1.Retirement) int { return cmp.Compare(a.ToVersion, b.ToVersion) })
	return list[max(0, len(list)-maxRetirements):]
}

// trim has the versions destroyed that spec.keyRotation.trim gives up: once more after everything was verified, for
// a database that was restored may need them, and never while a floor was lowered by hand or a rotation is at work,
// which are signs of such a restore.
func (r *Reconciler) trim(ctx context.Context, s *scope) error {
	entry, before := dueTrim(s)
	if entry == nil {
		return r.removeVerifications(ctx, s, "")
	}
	verified, err := r.verify(ctx, s, verification{
		name: operand.TrimJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1)), to: entry.ToVersion, jobUID: &entry.JobUID,
		failed: func(message string) { r.postponeTrim(s, entry, message) },
	})
	if err != nil || !verified {
		return err
	}
	return r.destroy(ctx, s, entry, before)
}

// dueTrim gives the newest retirement that is old enough, and the version before which all is to be destroyed: 0
// where it is nil. It also asks to be woken for the next.
func dueTrim(s *scope) (due *v1alpha1.Retirement, before int64) {
	policy := s.sn.Spec.KeyRotation
	if policy == nil || policy.Trim == nil || floorsAsSet(s).known() {
		return nil, 0
	}
	if slices.ContainsFunc(s.rotationList, func(kr v1alpha1.KeyRotation) bool { return !keyrotation.Ended(&kr) }) {
		return nil, 0 // its end brings the object back here
	}
	list := s.sn.Status.MasterKey.Retirements
	for i := range list {
		at := list[i].Time.Add(operand.TrimAfter(policy.Trim))
		if retry := list[i].RetryTime; retry != nil && retry.After(at) {
			at = retry.Time
		}
		if left := at.Sub(s.now); left > 0 {
			s.wake(left)
		} else if due == nil || list[i].ToVersion > due.ToVersion {
			due = &list[i]
		}
	}
	if due == nil {
		return nil, 0
	}
	before = due.ToVersion
	if keep := policy.Trim.KeepFromVersion; keep != nil {
		before = min(before, *keep)
	}
	if before <= max(s.key.MinAvailable, 1) {
		return nil, 0 // what is left is kept
	}
	return due, before
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
	if err := vault.Trim(ctx, config.TransitKeyName(s.env.ClusterID, s.sn.Namespace, s.sn.Name), before); err != nil {
		switch vaultadmin.ProblemOf(err) {
		case vaultadmin.Denied:
			// Nothing is wrong with the service: only this is not allowed.
			r.postponeTrim(s, entry, "Vault does not allow it: its administrator must run `"+r.SetupCommand(s.env.Connection)+" --allow-trim`, or trim be removed from spec.keyRotation")
			return nil
		case vaultadmin.Unsuitable:
			r.postponeTrim(s, entry, err.Error())
			return nil
		}
		return r.vaultTrouble(ctx, s, err)
	}
	status := s.sn.Status.MasterKey
	var left []v1alpha1.Retirement
	for _, retirement := range status.Retirements {
		if retirement.ToVersion > before {
			// Kept, or not yet due: what was verified now says nothing of then.
			retirement.Attempt, retirement.JobUID, retirement.RetryTime, retirement.Message = 0, "", nil, ""
			left = append(left, retirement)
		}
	}
	status.Retirements = left
	s.key.MinAvailable = max(s.key.MinAvailable, before)
	r.vaultChecks.drop(s.sn.UID)
	r.Recorder.Eventf(s.sn, nil, corev1.EventTypeNormal, "VersionsDestroyed", "Trim", "key versions below %d were destroyed in Vault", before)
	return nil
}

// postponeTrim records why nothing was destroyed, and tries it again later with a Job of another name.
func (r *Reconciler) postponeTrim(s *scope, entry *v1alpha1.Retirement, message string) {
	entry.Message = fmt.Sprintf("attempt %d: %s", max(entry.Attempt, 1), message)
	entry.Attempt = max(entry.Attempt, 1) + 1
	entry.JobUID = ""
	entry.RetryTime = new(metav1.NewTime(s.now.Add(trimRetry)))
	s.wake(trimRetry)
	r.Recorder.Eventf(s.sn, nil, corev1.EventTypeWarning, "TrimFailed", "Trim", "%s", entry.Message)
}
