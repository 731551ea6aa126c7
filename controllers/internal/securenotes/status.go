package securenotes

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
)

// readyConditions are the conditions that Ready summarizes. Ready reports the first one with a
// fault.
var readyConditions = []string{
	v1alpha1.ConditionVaultReady, v1alpha1.ConditionCertificateReady, v1alpha1.ConditionDatabaseReady, v1alpha1.ConditionWorkloadReady,
}

// stalledReasons are the reasons that do not heal with time: a person must change an object, or the
// operator's configuration.
var stalledReasons = []string{
	v1alpha1.ReasonUnknownVaultConnection, v1alpha1.ReasonKeyRetained, v1alpha1.ReasonKeyMissing,
	v1alpha1.ReasonKeyRestored, v1alpha1.ReasonKeyUnsuitable, v1alpha1.ReasonKeyTaken, v1alpha1.ReasonClusterIDChanged, v1alpha1.ReasonNameConflict, v1alpha1.ReasonInvalidResources,
	v1alpha1.ReasonDatabaseLost, v1alpha1.ReasonHostnameRefused,
}

// computeStatus turns the results of the phases into the status. It is pure: conditions keep their
// transition times, and equal results give an equal status.
func computeStatus(s *scope) v1alpha1.SecureNotesStatus {
	status := *s.sn.Status.DeepCopy()
	if s.suspended {
		setSuspended(s, &status)
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
		v1alpha1.ConditionVaultReady:         vaultReady(s),
		v1alpha1.ConditionDatabaseReady:      databaseReady(s),
		v1alpha1.ConditionCertificateReady:   certificateReady(s),
		v1alpha1.ConditionWorkloadReady:      workloadReady(s),
		v1alpha1.ConditionKeyRotationHealthy: rotationHealthy(s),
	} {
		setFinding(s.sn, &status, kind, s.duringRestore(kind, f))
	}
	setBackupHealthy(s, &status)
	setSummary(s, &status)
	setAnnotationIgnored(s, &status)
	setBackupKeyUnusable(s, &status)
	sortConditions(&status)
	return status
}

// url returns the URL of the service, with a name that the certificate has. A pass that did not
// determine the refused hostnames keeps the URL of the status.
func url(s *scope) string {
	before := s.sn.Status
	if s.sn.Spec.TLS.CertManager != nil && !certificateReady(s).known() && before.URL != "" && before.ObservedGeneration == s.sn.Generation {
		return before.URL
	}
	return operand.URL(s.sn, s.env.RefusedHostnames)
}

// sortConditions sorts the conditions in a fixed order.
func sortConditions(status *v1alpha1.SecureNotesStatus) {
	slices.SortStableFunc(status.Conditions, func(a, b metav1.Condition) int { return conditionRank(a.Type) - conditionRank(b.Type) })
}

// certificateStatus returns the Secret that cert-manager writes. For a user's own Secret it returns
// the end of validity that was read last, until the spec changes.
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
	recorded, _ := recordedSecret(s.sn)
	now := v1alpha1.CertificateStatus{SecretName: cmp.Or(s.certificateSecret, recorded), NotAfter: s.notAfter}
	if now == (v1alpha1.CertificateStatus{}) {
		return nil
	}
	return &now
}

var conditionOrder = append([]string{v1alpha1.ConditionReady}, append(slices.Clone(readyConditions),
	v1alpha1.ConditionKeyRotationHealthy, v1alpha1.ConditionBackupHealthy, v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled, v1alpha1.ConditionAnnotationIgnored,
	v1alpha1.ConditionBackupKeyUnusable)...)

func conditionRank(kind string) int { return slices.Index(conditionOrder, kind) }

// setFinding sets a condition. A zero finding leaves it as it is.
func setFinding(sn *v1alpha1.SecureNotes, status *v1alpha1.SecureNotesStatus, kind string, f finding) {
	if !f.known() {
		if meta.FindStatusCondition(status.Conditions, kind) != nil {
			return
		}
		f = unknown(v1alpha1.ReasonUnknown, "not known yet")
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
	// The name of a key of another cluster id stays: it shows that the cluster id was changed.
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

// setSummary sets Ready, and Reconciling or Stalled while one of them is true.
func setSummary(s *scope, status *v1alpha1.SecureNotesStatus) {
	sn := s.sn
	if sn.DeletionTimestamp != nil {
		setCondition(sn, status, v1alpha1.ConditionReady, deletionFinding(s, status))
		setProgress(sn, status, "", finding{})
		return
	}
	if c := mostSevere(status); c != nil {
		f := finding{c.Status, c.Reason, c.Type + ": " + c.Message}
		setCondition(sn, status, v1alpha1.ConditionReady, f)
		kind := v1alpha1.ConditionReconciling
		if slices.Contains(stalledReasons, c.Reason) {
			kind = v1alpha1.ConditionStalled
		}
		setProgress(sn, status, kind, f)
		return
	}
	if kind, ok := outdatedCondition(sn, status.Conditions); ok {
		f := unknown(v1alpha1.ReasonProgressing, kind+": not checked yet since the spec was changed")
		setCondition(sn, status, v1alpha1.ConditionReady, f)
		setProgress(sn, status, v1alpha1.ConditionReconciling, f)
		return
	}
	setCondition(sn, status, v1alpha1.ConditionReady, good(v1alpha1.ReasonReady, "the service answers at "+status.URL))
	setProgress(sn, status, "", finding{})
}

// setProgress sets one of Reconciling and Stalled to True, with the reason of why, and removes the
// other one. With an empty kind it removes both.
func setProgress(sn *v1alpha1.SecureNotes, status *v1alpha1.SecureNotesStatus, kind string, why finding) {
	for _, other := range []string{v1alpha1.ConditionReconciling, v1alpha1.ConditionStalled} {
		if other != kind {
			meta.RemoveStatusCondition(&status.Conditions, other)
		}
	}
	if kind != "" {
		setCondition(sn, status, kind, good(why.reason, why.message))
	}
}

// inProgress are the reasons of a condition that is False without a fault. Faults come before them.
var inProgress = []string{v1alpha1.ReasonIssuing, v1alpha1.ReasonProgressing, v1alpha1.ReasonRestoring}

// mostSevere returns the condition that says why the service is not ready, or nil. Faults come
// first, then work in progress, then what is Unknown: a database is Unknown if its pods cannot be
// created, and the reason is the one of the pods.
func mostSevere(status *v1alpha1.SecureNotesStatus) *metav1.Condition {
	for _, counts := range []func(*metav1.Condition) bool{
		func(c *metav1.Condition) bool {
			return c.Status == metav1.ConditionFalse && !slices.Contains(inProgress, c.Reason)
		},
		func(c *metav1.Condition) bool { return c.Status == metav1.ConditionFalse },
		func(c *metav1.Condition) bool { return c.Status == metav1.ConditionUnknown },
	} {
		for _, kind := range readyConditions {
			if c := meta.FindStatusCondition(status.Conditions, kind); counts(c) {
				return c
			}
		}
	}
	return nil
}
