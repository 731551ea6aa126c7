package securenotes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
)

// retirement has the old versions whose time has come stop decrypting: everything is verified once
// more, in a fresh process, and only then is min_decryption_version raised. It is the only code that
// raises it.
func (r *Reconciler) retirement(ctx context.Context, s *scope) error {
	if s.key == nil || s.sn.Status.MasterKey == nil || !s.connected || !s.keyed {
		return nil
	}
	entry, wait := retirement.Due(s.sn.Status.MasterKey.PendingRetirements, s.now)
	if wait > 0 {
		s.wake(wait)
	}
	if entry == nil {
		return r.trim(ctx, s)
	}
	verified, err := r.verify(ctx, s, verification{
		name: operand.RetireJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1)), to: entry.ToVersion, urgent: entry.Urgent, jobUID: &entry.JobUID, jobDigest: &entry.JobDigest,
		failed: func(message string) { r.postpone(s, entry, message) },
	})
	if err != nil || !verified {
		return err
	}
	// The Job goes with the next pass, once it is recorded that nothing is left to be done.
	s.wake(time.Second)
	return r.retire(ctx, s, entry.ToVersion)
}

// retire raises the floor and strikes off every entry that it covers.
func (r *Reconciler) retire(ctx context.Context, s *scope, to int64) error {
	vault, err := r.connect(s)
	if err != nil {
		return r.vaultTrouble(ctx, s, err)
	}
	floor, err := vault.RaiseMinDecryption(ctx, r.deploymentOf(s), to)
	if err != nil {
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
	retirement.Restart(status.Retirements, floor, s.now)
	status.Retirements = retirement.AddPast(status.Retirements, to, s.now)
	status.MinDecryptionFloor = max(status.MinDecryptionFloor, to)
	s.key.MinDecryption = max(s.key.MinDecryption, to)
	r.vaultChecks.drop(s.sn.UID)
	s.note(corev1.EventTypeNormal, "VersionsRetired", "Retire", fmt.Sprintf("key versions below %d no longer decrypt", to))
	return nil
}

// postpone records why a retirement did not happen, and when it is tried again.
func (r *Reconciler) postpone(s *scope, entry *v1alpha1.PendingRetirement, message string) {
	s.wake(retirement.Postpone(entry, s.now, message))
	s.warn("RetirementFailed", "Retire", entry.Message)
}
