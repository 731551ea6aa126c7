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

// retireVersions makes the old key versions that are due stop decrypting. It raises
// min_decryption_version only after a Job has verified, in a new process, that nothing needs them.
// No other code raises it.
func (r *Reconciler) retireVersions(ctx context.Context, s *scope) error {
	if !s.keyUsable() {
		return nil
	}
	announceRetirements(s)
	entry, wait := retirement.Due(s.sn.Status.MasterKey.PendingRetirements, s.now)
	if wait > 0 {
		s.requeueAfter(wait, "the next retirement of key versions")
	}
	if entry == nil {
		return nil
	}
	s.retirementDue = true
	verified, err := r.verify(ctx, s, verification{
		name: operand.RetireJobName(s.sn.Name, entry.ToVersion, max(entry.Attempt, 1)), to: entry.ToVersion, urgent: entry.Urgent, jobUID: &entry.JobUID, jobDigest: &entry.JobDigest,
		failed: func(message string) { postponeRetirement(s, entry, message) },
	})
	if err != nil || !verified {
		return err
	}
	// The next pass deletes the Job, once the status records the retirement.
	s.requeueAfter(time.Second, "the verification Job is to be deleted")
	return r.raiseFloor(ctx, s, entry.ToVersion)
}

// keyUsable reports whether the master key was read and its status is recorded.
func (s *scope) keyUsable() bool {
	return s.key != nil && s.sn.Status.MasterKey != nil && s.connected && s.hasKeys
}

// raiseFloor raises min_decryption_version to a version, and removes every pending retirement that
// this covers.
func (r *Reconciler) raiseFloor(ctx context.Context, s *scope, to int64) error {
	if err := r.notBesideRestore(ctx, s); err != nil {
		return err
	}
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
	s.event(corev1.EventTypeNormal, "VersionsRetired", "Retire", fmt.Sprintf("key versions below %d no longer decrypt", to))
	return nil
}

// postponeRetirement records why a retirement failed, and when it is tried again.
func postponeRetirement(s *scope, entry *v1alpha1.PendingRetirement, message string) {
	s.requeueAfter(retirement.Postpone(entry, s.now, message), "the next attempt of a failed retirement")
	s.warn("RetirementFailed", "Retire", entry.Message)
}
