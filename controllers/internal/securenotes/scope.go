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

// finding is what a phase has to say for a condition. The zero value: nothing yet.
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

// scope is one pass over one object: what it is about, and what the phases found.
type scope struct {
	sn       *v1alpha1.SecureNotes
	original *v1alpha1.SecureNotes
	env      operand.Environment
	now      time.Time
	// requeue is the earliest time that any phase asked for; 0: none did.
	requeue time.Duration

	suspended bool

	// connected says that env.Connection is known; keyed, that env.DeploymentID is.
	connected, keyed bool
	key              *vaultadmin.KeyState
	secrets          vaultadmin.Secrets
	configHash       string
	deployment       *appsv1.Deployment
	// databaseOpened says that a pod, of whichever spec, has opened its database.
	databaseOpened bool
	// deployed says that this pass applied the Deployment, whose spec is thus of this generation.
	deployed bool
	notAfter *metav1.Time
	// certificateSecret is the Secret that cert-manager writes, where it was decided on in this
	// pass.
	certificateSecret string
	rotationList      []v1alpha1.KeyRotation
	nextRotation      *metav1.Time
	lastRotation      *metav1.Time

	// database is what Vault says of it; nil: it could not be asked.
	database *vaultadmin.DatabaseState
	// volume is what became of the embedded database's.
	volume volumeState
	// volumeSize is for the status; nil: the claim was not looked at.
	volumeSize *string

	// databaseRights and deletionRights are rights in Vault that are missing for the database's
	// logins, and for what the deletion is to destroy. Nothing else needs them.
	databaseRights, deletionRights finding

	vaultFinding, databaseFinding, certificateFinding, workloadFinding, rotationFinding finding
	// addressFinding is what is wrong with the address of a load balancer.
	addressFinding finding
	// metricsConflict is what has the name of the Service of the metrics.
	metricsConflict *apply.ConflictError
	// childTrouble is the first child object that could not be written, or every one that somebody
	// else's is in the way of, which are the conflicts.
	childTrouble finding
	conflicts    []*apply.ConflictError
	// jobTrouble is why a verification Job does not come to its end.
	jobTrouble finding
	// refusals counts the children that could not be written.
	refusals int
	// notes are events that are told once the status is written.
	notes []note
}

func newScope(sn *v1alpha1.SecureNotes, env operand.Environment, now time.Time) *scope {
	s := &scope{sn: sn, original: sn.DeepCopy(), env: env, now: now}
	s.env.DeploymentID = sn.Status.DeploymentID
	s.use(secretrecord.Get(&sn.Status))
	s.keyed = s.env.DeploymentID != ""
	return s
}

// use has the pods of this pass, and the status at its end, know these secrets.
func (s *scope) use(secrets vaultadmin.Secrets) {
	s.secrets = secrets
	s.env.SessionKeys, s.env.SessionKeysDigest = secrets.SessionKeys.Entry, secrets.SessionKeys.Digest
	s.env.Pepper, s.env.PepperDigest = secrets.Pepper.Entry, secrets.Pepper.Digest
}

// wake asks for another pass after d at the latest.
func (s *scope) wake(d time.Duration) {
	d = max(d, time.Second)
	if s.requeue == 0 || d < s.requeue {
		s.requeue = d
	}
}

// retryInterval is how often something that is wrong, and not watched, is looked at again.
const retryInterval = 15 * time.Second
