package securenotes

import (
	"cmp"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
)

// summed are the conditions that Ready sums up, in the order in which trouble is told.
var summed = []string{
	v1alpha1.ConditionVaultReady, v1alpha1.ConditionCertificateReady, v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionWorkloadReady,
}

// stalling are the reasons that no time heals: somebody has to change an object, or the operator's
// configuration.
var stalling = []string{
	v1alpha1.ReasonUnknownVaultConnection, v1alpha1.ReasonKeyRetained, v1alpha1.ReasonKeyMissing,
	v1alpha1.ReasonKeyRestored, v1alpha1.ReasonKeyUnsuitable, v1alpha1.ReasonKeyTaken, v1alpha1.ReasonClusterIDChanged, v1alpha1.ReasonNameConflict, v1alpha1.ReasonInvalidResources,
	v1alpha1.ReasonDatabaseLost, v1alpha1.ReasonHostnameRefused,
}

// computeStatus turns what the phases found into the status. It is pure: conditions keep their
// transition times, and equal findings give an equal status.
func computeStatus(s *scope) v1alpha1.SecureNotesStatus {
	status := *s.sn.Status.DeepCopy()
	if s.suspended {
		suspend(s, &status)
		return status
	}
	status.URL = url(s)
	status.ObservedGeneration = s.sn.Generation
	status.Selector = operand.SelectorString(s.sn)
	if s.vaultFinding.status == metav1.ConditionTrue {
		status.DeploymentID = s.env.DeploymentID
		secretrecord.Set(&status, s.secrets)
	}
	if s.deployment != nil {
		status.Replicas, status.ReadyReplicas = s.deployment.Status.Replicas, s.deployment.Status.ReadyReplicas
	}
	if s.volumeSize != nil {
		status.VolumeSize = *s.volumeSize
	}
	status.Database = databaseStatus(s)
	status.Certificate = certificateStatus(s)
	setMasterKey(s, &status)
	for kind, f := range map[string]finding{
		v1alpha1.ConditionVaultReady:         s.vaultFinding,
		v1alpha1.ConditionDatabaseReady:      databaseReady(s),
		v1alpha1.ConditionCertificateReady:   s.certificateFinding,
		v1alpha1.ConditionWorkloadReady:      s.workloadFinding,
		v1alpha1.ConditionKeyRotationHealthy: rotationFinding(s),
	} {
		setFinding(s.sn, &status, kind, f)
	}
	setSummary(s, &status)
	setAnnotationIgnored(s, &status)
	sortConditions(&status)
	return status
}

// url is a name that the certificate has. A pass that did not find out which hostnames are refused
// keeps the one that it finds.
func url(s *scope) string {
	before := s.sn.Status
	if s.sn.Spec.TLS.CertManager != nil && !s.certificateFinding.known() && before.URL != "" && before.ObservedGeneration == s.sn.Generation {
		return before.URL
	}
	return operand.URL(s.sn, s.env.RefusedHostnames)
}

// sortConditions gives them a fixed order, whichever was set first.
func sortConditions(status *v1alpha1.SecureNotesStatus) {
	slices.SortStableFunc(status.Conditions, func(a, b metav1.Condition) int { return conditionRank(a.Type) - conditionRank(b.Type) })
}

// certificateStatus keeps the Secret that was decided on; of a Secret of somebody's own, the end of
// validity that was seen last, until the spec changes.
func certificateStatus(s *scope) *v1alpha1.CertificateStatus {
	if s.sn.Spec.TLS.CertManager == nil {
		if before := s.original.Status.Certificate; before != nil && s.notAfter == nil && s.original.Status.ObservedGeneration == s.sn.Generation {
			return before.DeepCopy()
		}
		if s.notAfter == nil {
			return nil
		}
		return &v1alpha1.CertificateStatus{NotAfter: s.notAfter}
	}
	now := v1alpha1.CertificateStatus{SecretName: cmp.Or(s.certificateSecret, recordedSecret(s.sn)), NotAfter: s.notAfter}
	if now == (v1alpha1.CertificateStatus{}) {
		return nil
	}
	return &now
}

var order = append([]string{v1alpha1.ConditionReady}, append(slices.Clone(summed),
	v1alpha1.ConditionKeyRotationHealthy, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionAnnotationIgnored)...)

func conditionRank(kind string) int { return slices.Index(order, kind) }

// setFinding leaves a condition as it is when the pass had nothing to say about it.
func setFinding(sn *v1alpha1.SecureNotes, status *v1alpha1.SecureNotesStatus, kind string, f finding) {
	if !f.known() {
		if meta.FindStatusCondition(status.Conditions, kind) != nil {
			return
		}
		f = unknown(v1alpha1.ReasonUnknown, "not yet known")
	}
	setCondition(sn, status, kind, f)
}

func setCondition(sn *v1alpha1.SecureNotes, status *v1alpha1.SecureNotesStatus, kind string, f finding) {
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{
		Type: kind, Status: f.status, Reason: f.reason, Message: f.message, ObservedGeneration: sn.Generation,
	})
}

func setMasterKey(s *scope, status *v1alpha1.SecureNotesStatus) {
	if s.key == nil && status.MasterKey == nil {
		return
	}
	if status.MasterKey == nil {
		status.MasterKey = &v1alpha1.MasterKeyStatus{}
	}
	key := status.MasterKey
	// A key of another cluster id keeps its name, by which that is noticed.
	if operand.CheckClusterID(s.sn, s.env.ClusterID) == nil {
		key.Name = config.TransitKeyName(s.env.ClusterID, s.sn.Namespace, s.sn.Name)
	}
	if s.rotationFinding.known() {
		key.LastRotationTime, key.NextRotationTime = s.lastRotation, s.nextRotation
	}
	if s.key == nil {
		return
	}
	key.LatestVersion, key.MinDecryptionVersion, key.MinAvailableVersion = s.key.Latest, s.key.MinDecryption, s.key.MinAvailable
	if key.MinDecryptionFloor == 0 {
		key.MinDecryptionFloor = s.key.MinDecryption
	}
}

// rotationFinding adds to the rotations' health what retirement and Vault say.
func rotationFinding(s *scope) finding {
	if s.rotationFinding.status != metav1.ConditionTrue {
		return s.rotationFinding
	}
	if s.jobTrouble.known() {
		return s.jobTrouble
	}
	if f := floorsAsSet(s); f.known() {
		return f
	}
	if f := keptInVain(s); f.known() {
		return f
	}
	if key := s.sn.Status.MasterKey; key != nil {
		for _, entry := range key.PendingRetirements {
			if entry.Message != "" {
				return bad(v1alpha1.ReasonRotationFailed, fmt.Sprintf("the versions below %d could not be retired: %s", entry.ToVersion, entry.Message))
			}
		}
		for _, entry := range key.Retirements {
			if entry.Message != "" {
				return bad(cmp.Or(entry.Reason, v1alpha1.ReasonTrimFailed), fmt.Sprintf("the versions below %d could not be destroyed: %s", entry.ToVersion, entry.Message))
			}
		}
	}
	if f := unfinished(s); f.known() {
		return f
	}
	return s.rotationFinding
}

// setSummary sets Ready, and Reconciling or Stalled while true.
func setSummary(s *scope, status *v1alpha1.SecureNotesStatus) {
	sn := s.sn
	hindrance := ""
	// What stays true keeps the time since when it is.
	defer func() {
		for _, kind := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
			if kind != hindrance {
				meta.RemoveStatusCondition(&status.Conditions, kind)
			}
		}
	}()
	if sn.DeletionTimestamp != nil {
		setCondition(sn, status, v1alpha1.ConditionReady, deletionFinding(s, status))
		return
	}
	if c := deepest(status); c != nil {
		reason, message := c.Reason, c.Type+": "+c.Message
		setCondition(sn, status, v1alpha1.ConditionReady, finding{c.Status, reason, message})
		if hindrance = v1alpha1.ConditionReconciling; slices.Contains(stalling, reason) {
			hindrance = v1alpha1.ConditionStalled
		}
		setCondition(sn, status, hindrance, good(reason, message))
		return
	}
	if kind := notLookedAt(sn, status.Conditions); kind != "" {
		hindrance = v1alpha1.ConditionReconciling
		message := kind + ": not looked at yet since the spec was changed"
		setCondition(sn, status, v1alpha1.ConditionReady, unknown(v1alpha1.ReasonProgressing, message))
		setCondition(sn, status, hindrance, good(v1alpha1.ReasonProgressing, message))
		return
	}
	setCondition(sn, status, v1alpha1.ConditionReady, good(v1alpha1.ReasonReady, "the service answers at "+status.URL))
}

// inProgress are the reasons of a condition that is False and no fault: one that is comes before
// it.
var inProgress = []string{v1alpha1.ReasonIssuing, v1alpha1.ReasonProgressing}

// deepest returns the condition that says why the service is not ready, nil when it is: the first
// fault, else the first that is under way, and only else one that is Unknown, because nobody knows
// of a database whose pods cannot be made.
func deepest(status *v1alpha1.SecureNotesStatus) *metav1.Condition {
	for _, counts := range []func(*metav1.Condition) bool{
		func(c *metav1.Condition) bool {
			return c.Status == metav1.ConditionFalse && !slices.Contains(inProgress, c.Reason)
		},
		func(c *metav1.Condition) bool { return c.Status == metav1.ConditionFalse },
		func(c *metav1.Condition) bool { return c.Status == metav1.ConditionUnknown },
	} {
		for _, kind := range summed {
			if c := meta.FindStatusCondition(status.Conditions, kind); counts(c) {
				return c
			}
		}
	}
	return nil
}

// databaseReady is what is known of the database, unless Vault may not look after its logins.
func databaseReady(s *scope) finding {
	if s.databaseRights.known() && s.databaseFinding.reason != v1alpha1.ReasonDatabaseLost {
		return s.databaseRights
	}
	return s.databaseFinding
}

// deletionFinding says what the deletion waits for, when it waits for Vault.
func deletionFinding(s *scope, status *v1alpha1.SecureNotesStatus) finding {
	if s.deletionRights.known() {
		return bad(s.deletionRights.reason, "is being deleted: "+s.deletionRights.message)
	}
	if c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionVaultReady); c != nil && c.Status == metav1.ConditionFalse {
		return bad(v1alpha1.ReasonDeleting, "is being deleted: "+c.Message)
	}
	return bad(v1alpha1.ReasonDeleting, "is being deleted")
}
