package securenotes

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// The functions of this file are pure. Each computes one condition from the results in the scope. A
// zero finding leaves the condition as it is.

// leaveWithoutVault is the next step of a deletion that Vault prevents.
const leaveWithoutVault = "annotate it with " + v1alpha1.AnnotationAbandonVault + "=true to delete it without Vault"

// vaultReady returns the condition VaultReady.
func vaultReady(s *scope) finding {
	f := s.vaultFinding
	if s.sn.DeletionTimestamp != nil && f.known() {
		f.message += ". This object is being deleted and its keys are to be destroyed; if they are not its own, or that Vault is lost for good, " + leaveWithoutVault
	}
	return f
}

// databaseReady returns the condition DatabaseReady. Missing rights for database credentials come
// before what is known of the database, unless the database is lost.
func databaseReady(s *scope) finding {
	f := databaseOrLoss(s)
	if s.databaseRights != nil && f.reason != v1alpha1.ReasonDatabaseLost {
		return s.rightsMissing(s.databaseRights)
	}
	return f
}

// databaseOrLoss returns what is known of the database, and the next step if it is lost.
func databaseOrLoss(s *scope) finding {
	f := s.foundDatabase()
	switch s.loss {
	case lossEmptyPending:
		return unknown(v1alpha1.ReasonProgressing, "an empty database replaces the lost one when the next pod starts: "+
			"within five minutes, or at once after `kubectl rollout restart deployment "+s.sn.Name+"`, which pods need that have served before ("+databaseName(s.sn)+")")
	case lossLimitReached:
		f.message += ". The operator creates no other database in its place, and its loss cannot be accepted: the count of accepted empty databases was raised to its maximum. " +
			"Have the Vault administrator restore an earlier version of the marker, then delete this SecureNotes with deletionPolicy Retain and create it again with spec.adoptRetainedKey"
	case lossUndecided:
		f.message += fmt.Sprintf(". The operator creates no other database in its place. To give up every account and note and start with an empty database, annotate this SecureNotes with %s=%s",
			v1alpha1.AnnotationAcceptEmptyDatabase, acceptance(s))
	case lossNone, lossAccepted:
	}
	return f
}

// foundDatabase returns why there is no volume, or else what the pods report of the database.
func (s *scope) foundDatabase() finding {
	if s.databaseFinding.known() || s.report == nil {
		return s.databaseFinding
	}
	return s.ofThisSpec(databaseFinding(s.sn, s.trustedReport()))
}

// databaseOpened reports whether a pod, of this spec or an earlier one, has opened the database.
func (s *scope) databaseOpened() bool {
	return !s.databaseFinding.known() && s.report != nil && databaseFinding(s.sn, s.trustedReport()).status == metav1.ConditionTrue
}

// trustedReport returns the report of the pods. While every replica of the Deployment is available,
// a pod that is not ready is not one of them: anyone who may create pods can give one the labels of
// the service, and let it report anything.
func (s *scope) trustedReport() podReport {
	report := *s.report
	if s.settled() {
		report.termination, report.cause = nil, cause.Cause{}
	}
	return report
}

// certificateReady returns the condition CertificateReady.
func certificateReady(s *scope) finding {
	switch f := s.certificateFinding; {
	case !f.known() && s.sn.Spec.TLS.SecretRef != nil:
		return secretReady(s)
	case f.status != metav1.ConditionTrue || s.notAfter == nil:
		return f
	default:
		return s.expiry(f, renewalOverdue(s), "see why cert-manager does not renew Certificate "+operand.CertificateName(s.sn.Name))
	}
}

// workloadReady returns the condition WorkloadReady.
func workloadReady(s *scope) finding {
	f := s.workloadFinding
	if !f.known() && s.report != nil {
		f = s.ofThisSpec(workloadFinding(s, s.trustedReport()))
	}
	if f.status != metav1.ConditionTrue {
		return f
	}
	if s.addressFinding.known() {
		return s.addressFinding
	}
	if s.metricsConflict != nil {
		f.message += "; " + metricsMessage(s)
	}
	return f
}

// metricsMessage says why the metrics have no Service.
func metricsMessage(s *scope) string {
	return "the metrics have no Service: " + s.metricsConflict.Error()
}

// rotationHealthy returns the condition KeyRotationHealthy: faults of the rotations first, then
// those of the retirement and trim of old versions.
func rotationHealthy(s *scope) finding {
	if s.rotationFinding.status != metav1.ConditionTrue {
		return s.rotationFinding
	}
	if s.jobTrouble.known() {
		return s.jobTrouble
	}
	if f := floorChanged(s); f.known() {
		return f
	}
	if f := keepsDestroyedVersion(s); f.known() {
		return f
	}
	if key := s.sn.Status.MasterKey; key != nil {
		for _, entry := range key.PendingRetirements {
			if entry.Message != "" {
				return bad(v1alpha1.ReasonRotationFailed, fmt.Sprintf("the versions below %d could not be retired: %s", entry.ToVersion, entry.Message))
			}
		}
		for _, entry := range key.Retirements {
			if entry.Message != "" && entry.Reason != v1alpha1.ReasonHeldByBackup {
				return bad(cmp.Or(entry.Reason, v1alpha1.ReasonTrimFailed), fmt.Sprintf("the versions below %d could not be destroyed: %s", entry.ToVersion, entry.Message))
			}
		}
	}
	if f := unretired(s); f.known() {
		return f
	}
	return withBackupNotes(s)
}

// floorChanged reports a min_decryption_version that is not the recorded one. The operator does not
// change it back. An operator that dies after it has raised the value, and before it has recorded
// that, leaves the same difference until the next verification succeeds.
func floorChanged(s *scope) finding {
	status := s.sn.Status.MasterKey
	if s.key == nil || status == nil || status.MinDecryptionFloor == 0 || s.key.MinDecryption == status.MinDecryptionFloor {
		return finding{}
	}
	var why string
	switch {
	case s.key.MinDecryption < status.MinDecryptionFloor:
		why = "somebody has lowered it, or Vault was restored from a backup: set it back in Vault"
	case raiseUnrecorded(s):
		why = "another client of Vault has raised it, or the operator was interrupted when it retired the older versions. " +
			"If nobody has changed it, leave it: the operator records the retirement after another verification. Otherwise set it back in Vault"
	default:
		why = "another client of Vault has raised it: set it back in Vault"
	}
	return bad(v1alpha1.ReasonFloorsChanged, fmt.Sprintf("min_decryption_version of Transit key %s is %d, and the operator has recorded %d: %s",
		status.Name, s.key.MinDecryption, status.MinDecryptionFloor, why))
}

// raiseUnrecorded reports whether the operator may have raised min_decryption_version and died
// before it recorded that: a retirement to exactly this version has been due, and is pending.
func raiseUnrecorded(s *scope) bool {
	return slices.ContainsFunc(s.sn.Status.MasterKey.PendingRetirements, func(p v1alpha1.PendingRetirement) bool {
		return p.ToVersion == s.key.MinDecryption && (p.Attempt > 1 || !p.Due.After(s.now))
	})
}

// keepsDestroyedVersion reports that the trim policy keeps a version that is destroyed already.
func keepsDestroyedVersion(s *scope) finding {
	policy := trimPolicy(s.sn)
	if policy == nil || policy.KeepFromVersion == nil || s.key == nil || *policy.KeepFromVersion >= s.key.MinAvailable {
		return finding{}
	}
	return bad(v1alpha1.ReasonTrimFailed, fmt.Sprintf("spec.keyRotation.trim.keepFromVersion is %d, but Vault has already destroyed the key versions below %d: a backup that is encrypted under one of them cannot be read",
		*policy.KeepFromVersion, s.key.MinAvailable))
}

// unretired reports old versions that still decrypt and have no pending retirement, although a
// rotation has put a newer one into use. The KeyRotation was deleted too early, or the retirement
// was lost with an earlier object. Only rotations raise min_encryption_version, so a version that
// an administrator adds does not count.
func unretired(s *scope) finding {
	status := s.sn.Status.MasterKey
	if s.key == nil || status == nil || s.key.MinEncryption <= s.key.MinDecryption || len(status.PendingRetirements) > 0 ||
		s.rotationFinding.reason != v1alpha1.ReasonIdle {
		return finding{}
	}
	return bad(v1alpha1.ReasonRotationFailed, fmt.Sprintf(
		"the versions of Transit key %s below %d still decrypt, and no retirement of them is recorded, as when a KeyRotation is deleted before its end: create another KeyRotation, of reason Compromise if that one was",
		status.Name, s.key.MinEncryption))
}

// childTrouble returns why children could not be written: all name conflicts, or else the first
// refusal. All conflicts are listed, so that a person can remove them at once.
func childTrouble(s *scope) finding {
	switch {
	case len(s.conflicts) > 1:
		facts := make([]string, len(s.conflicts))
		for i, c := range s.conflicts {
			facts[i] = c.Fact()
		}
		return bad(v1alpha1.ReasonNameConflict, strings.Join(facts, "; ")+": delete them or recreate them under other names, or create the SecureNotes under another name")
	case len(s.conflicts) == 1:
		return bad(v1alpha1.ReasonNameConflict, s.conflicts[0].Error())
	case len(s.refusals) > 0:
		return s.refusals[0]
	default:
		return finding{}
	}
}

// deletionFinding returns Ready of an object that is being deleted, with what the deletion waits
// for.
func deletionFinding(s *scope, status *v1alpha1.SecureNotesStatus) finding {
	if s.deletionHeld != "" {
		return bad(v1alpha1.ReasonHeldByBackup, "is being deleted: "+s.deletionHeld)
	}
	if s.deletionRights != nil {
		missing := s.rightsMissing(s.deletionRights)
		return bad(missing.reason, "is being deleted: "+missing.message+"; to leave the keys in Vault, "+leaveWithoutVault)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionVaultReady); c != nil && c.Status == metav1.ConditionFalse {
		return bad(v1alpha1.ReasonDeleting, "is being deleted: "+c.Message)
	}
	return bad(v1alpha1.ReasonDeleting, "is being deleted")
}
