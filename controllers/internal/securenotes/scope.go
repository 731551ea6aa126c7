package securenotes

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/apply"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// finding is one result in the form of a condition. The zero value means that nothing was found.
type finding struct {
	status          metav1.ConditionStatus
	reason, message string
}

func good(reason, message string) finding { return finding{metav1.ConditionTrue, reason, message} }

func bad(reason, message string) finding { return finding{metav1.ConditionFalse, reason, message} }

func unknown(reason, message string) finding {
	return finding{metav1.ConditionUnknown, reason, message}
}

func (f finding) known() bool { return f.status != "" }

// scope holds one pass over one object: the object, and the results of the phases. A phase writes
// only its own results. [computeStatus] alone turns them into conditions.
type scope struct {
	// sn is the working copy. Phases record their progress in its status, as a Job's UID.
	sn *v1alpha1.SecureNotes
	// original is the object as it was read, or as it was last written.
	original *v1alpha1.SecureNotes
	env      operand.Environment
	now      time.Time
	// requeue is the earliest requeue that a phase asked for.
	requeue requeue

	suspended bool
	// restore is the NotesRestore for which the object stands still; nil if there is none.
	restore *v1alpha1.NotesRestore

	// connected reports whether env.Connection is known; hasKeys, whether env.DeploymentID is, and
	// so whether the object has keys.
	connected, hasKeys bool
	// setupCommand is what the Vault administrator runs to grant missing rights.
	setupCommand string
	key          *vaultadmin.KeyState
	secrets      vaultadmin.Secrets
	// database is what the marker in Vault records of the database; nil if it was not read.
	database *vaultadmin.DatabaseState
	// databaseRights and deletionRights are errors about rights in Vault that are missing for the
	// database credentials, and for the deletion. Nothing else needs these rights.
	databaseRights, deletionRights error
	// deletionHeld is why the deletion waits for backups, and how it is released.
	deletionHeld string
	// backupKeyProblem is why no backup can be signed. Only backups need the key.
	backupKeyProblem error
	// vaultFinding is the result of the vault phase, or why a later call to Vault failed.
	vaultFinding finding

	// refusals are the children that the API server did not accept; conflicts, the objects of other
	// owners that have the name of a child.
	refusals  []finding
	conflicts []*apply.ConflictError
	// metricsConflict is the object that has the name of the metrics Service.
	metricsConflict *apply.ConflictError
	// addressFinding says that a load balancer has no address.
	addressFinding finding
	configHash     string

	// certificateSecret is the Secret that cert-manager writes, if this pass decided on it.
	certificateSecret string
	// certificateFinding is the result of the certificate phase. A certificate of a Secret has
	// none: its condition comes from report and served.
	certificateFinding finding
	// notAfter is the end of the certificate, if it is known.
	notAfter *metav1.Time
	// served is the certificate of spec.tls.secretRef as a pod serves it; nil if no pod was asked.
	served *servedCertificate

	// volume is the state of the embedded database's volume, and volumeSize its size for the
	// status; nil if the claim was not read.
	volume     volumeState
	volumeSize *string
	// databaseFinding is the result of the volume phase: why there is no volume.
	databaseFinding finding
	// loss is what becomes of a database that is lost.
	loss lossState

	deployment *appsv1.Deployment
	// deployed reports whether this pass applied the Deployment, whose spec is thus current.
	deployed bool
	// workloadFinding is the result of the workload phase: why it left the Deployment unchanged.
	workloadFinding finding
	// report is what the pods report; nil if they were not read.
	report *podReport

	// retirementDue reports whether a retirement is due, before which nothing is trimmed.
	retirementDue              bool
	rotationList               []v1alpha1.KeyRotation
	nextRotation, lastRotation *metav1.Time
	rotationFinding            finding
	// backupList are the backups of this object, and backupFinding is the state of the backups.
	backupList    []v1alpha1.NotesBackup
	backupFinding finding
	// drillFinding is why no drill is made or makes progress.
	drillFinding finding
	// jobTrouble says why a verification Job makes no progress.
	jobTrouble finding

	// events are emitted once the status is written.
	events []pendingEvent
}

// requeue is when the next pass is due, and why. The zero value means that none was asked for.
type requeue struct {
	after  time.Duration
	reason string
}

func newScope(sn *v1alpha1.SecureNotes, env operand.Environment, now time.Time) *scope {
	s := &scope{sn: sn, original: sn.DeepCopy(), env: env, now: now}
	s.env.DeploymentID = sn.Status.DeploymentID
	s.setSecrets(secretrecord.Get(&sn.Status))
	s.hasKeys = s.env.DeploymentID != ""
	return s
}

// setSecrets makes the pods of this pass, and the status at its end, name these secrets.
func (s *scope) setSecrets(secrets vaultadmin.Secrets) {
	s.secrets = secrets
	s.env.SessionKeys, s.env.SessionKeysDigest = secrets.SessionKeys.Entry, secrets.SessionKeys.Digest
	s.env.Pepper, s.env.PepperDigest = secrets.Pepper.Entry, secrets.Pepper.Digest
}

// requeueAfter asks for another pass after d at the latest. The reason appears in the log.
func (s *scope) requeueAfter(d time.Duration, reason string) {
	d = max(d, time.Second)
	if s.requeue.after == 0 || d < s.requeue.after {
		s.requeue = requeue{d, reason}
	}
}

// retry asks for another pass after [retryInterval], for what is wrong and not watched.
func (s *scope) retry(reason string) { s.requeueAfter(jittered(retryInterval), reason) }

// retryInterval is how often the operator checks again what is wrong and not watched.
const retryInterval = 15 * time.Second
