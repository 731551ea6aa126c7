package keyrotation

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// action is one step of a rotation.
type action string

const (
	actionNone               action = "None"
	actionRelease            action = "Release"
	actionRecordEnded        action = "RecordEnded"
	actionRecordRestored     action = "RecordRestored"
	actionWait               action = "Wait"
	actionRetry              action = "Retry"
	actionAdopt              action = "Adopt"
	actionGuard              action = "Guard"
	actionStart              action = "Start"
	actionRecordFrom         action = "RecordFrom"
	actionRecordTurn         action = "RecordTurn"
	actionRotateKey          action = "RotateKey"
	actionRecordTo           action = "RecordTo"
	actionRaiseMinEncryption action = "RaiseMinEncryption"
	actionRecordAccounts     action = "RecordAccounts"
	actionDeleteAccounts     action = "DeleteAccounts"
	actionCreateReencrypt    action = "CreateReencrypt"
	actionRecordReencryptJob action = "RecordReencryptJob"
	actionRecordVerifyJob    action = "RecordVerifyJob"
	actionForgetReencryptJob action = "ForgetReencryptJob"
	actionForgetVerifyJob    action = "ForgetVerifyJob"
	actionRecordReencrypted  action = "RecordReencrypted"
	actionCreateVerify       action = "CreateVerify"
	actionRecordVerified     action = "RecordVerified"
	actionRecordRetirement   action = "RecordRetirement"
	actionRecordRetired      action = "RecordRetired"
	actionComplete           action = "Complete"
	actionFail               action = "Fail"

	actionRecordAccountsRecreated action = "RecordAccountsRecreated"
	actionRevokeCredentials       action = "RevokeDatabaseCredentials"
	actionReplaceSessionKeys      action = "ReplaceSessionKeys"
	actionDeleteOldSessionKeys    action = "DeleteOldSessionKeys"
)

// observed is everything that a decision depends on.
type observed struct {
	rotation *v1alpha1.KeyRotation
	// parent is nil when the SecureNotes does not exist.
	parent *v1alpha1.SecureNotes
	// queued is how many older rotations of the same reason have not ended.
	queued int
	// ahead is the rotation that goes first, nil when it is this one's turn.
	ahead *v1alpha1.KeyRotation
	// supersededBy is the Compromise that has begun since, nil when there is none.
	supersededBy *v1alpha1.KeyRotation
	// overtaken says what has made a newer version than this one, which is tried again; empty: nothing has.
	overtaken string
	// inTheWay is the rotation that this one supersedes and that has not ended yet.
	inTheWay *v1alpha1.KeyRotation
	// key as Vault has it; nil where the step does not depend on it.
	key *vaultadmin.KeyState
	// newest is the newest version of the key that was ever seen.
	newest int64
	// reencrypt and verify are the Jobs of the current attempt.
	reencrypt, verify trustedjob.Outcome
	// retirementRecorded says that the SecureNotes knows of the retirement.
	retirementRecorded bool
	// accounts and restarted are of a Compromise, and known where its next step depends on them: the service
	// accounts, and whether every pod of the API began with the new session keys.
	accounts  []account
	restarted bool
	// givenUp says that the rotation was deleted long enough ago to go before its end if that does
	// not come.
	givenUp bool
}

// decision is the next step, and what to tell people about it.
type decision struct {
	action          action
	reason, message string
	// cause is why what is waited for does not come.
	cause cause.Cause
	// mayGiveUp says that a rotation that is deleted does not wait for its end.
	mayGiveUp bool
	// forGood says of a failure that no retry mends it.
	forGood bool
}

// next decides the one step that comes now.
func next(o observed) decision {
	d := decide(o)
	if d.action == actionWait && !d.mayGiveUp {
		d.message += deletionNote(o.rotation)
	}
	return d
}

// deletionNote says of a rotation that was deleted, and has begun, why it is still there.
func deletionNote(kr *v1alpha1.KeyRotation) string {
	if kr.DeletionTimestamp == nil {
		return ""
	}
	return ". This KeyRotation is being deleted, and goes to its end first"
}

func decide(o observed) decision {
	kr := o.rotation
	if gone(o.parent) {
		return withoutParent(o)
	}
	if rotations.Failed(kr) {
		if rotations.RetryRequested(kr) && kr.DeletionTimestamp == nil {
			return decision{action: actionRetry}
		}
		return released(o)
	}
	if rotations.Complete(kr) {
		if !rotations.HasFinalizer(kr) && rotations.AwaitsRetirement(kr) && retirement.Done(o.parent.Status.MasterKey, *kr.Status.ToVersion) {
			return decision{action: actionRecordRetired}
		}
		return released(o)
	}
	if kr.DeletionTimestamp != nil && !rotations.Started(kr) || rotations.IsTrue(kr, v1alpha1.ConditionRestored) {
		return released(o)
	}
	if controller := metav1.GetControllerOf(kr); controller == nil {
		return decision{action: actionAdopt}
	} else if controller.UID != o.parent.UID {
		return failForGood(v1alpha1.ReasonNameConflict,
			"%s %s controls this KeyRotation, so SecureNotes %s cannot: create another one without an owner", controller.Kind, controller.Name, o.parent.Name)
	}
	if restoredEnded(kr) {
		return decision{action: actionRecordRestored}
	}
	if tooMany(o) {
		return refused(o)
	}
	if o.parent.Spec.Suspend != nil && *o.parent.Spec.Suspend {
		return held(kr, v1alpha1.ReasonSuspended, "SecureNotes %s is suspended: set its spec.suspend to false to go on", o.parent.Name)
	}
	if c := meta.FindStatusCondition(o.parent.Status.Conditions, v1alpha1.ConditionVaultReady); c != nil && c.Reason == v1alpha1.ReasonKeyTaken {
		return held(kr, v1alpha1.ReasonKeyTaken, "SecureNotes %s: %s", o.parent.Name, c.Message)
	}
	if o.parent.Status.DeploymentID == "" {
		return held(kr, v1alpha1.ReasonSecureNotesNotReady, "SecureNotes %s has no master key yet: see its condition VaultReady", o.parent.Name)
	}
	if err := operand.CheckResources(o.parent); err != nil {
		return held(kr, v1alpha1.ReasonInvalidResources, "SecureNotes %s: %s", o.parent.Name, err)
	}
	if !rotations.Started(kr) && o.ahead != nil {
		return wait(v1alpha1.ReasonQueued, "waits for KeyRotation %s to end", o.ahead.Name)
	}
	if rotations.Started(kr) && o.supersededBy != nil {
		return failForGood(config.ReasonSuperseded, "KeyRotation %s, of reason Compromise, has taken over and moves everything to a newer version", o.supersededBy.Name)
	}
	if rotations.Started(kr) && o.overtaken != "" {
		// Its session keys, too, are older than those in use.
		return failForGood(config.ReasonSuperseded, "%s", o.overtaken)
	}
	if !rotations.HasFinalizer(kr) {
		return decision{action: actionGuard}
	}
	if !rotations.Started(kr) {
		return decision{action: actionStart}
	}
	return step(o)
}

func tooMany(o observed) bool {
	return !rotations.Started(o.rotation) && !restoredEnded(o.rotation) && o.queued >= maxQueued
}

// refused ends a rotation that would lengthen the queue without end.
func refused(o observed) decision {
	return fail(v1alpha1.ReasonTooManyRotations, "%d older KeyRotations of SecureNotes %s have not ended: delete those that are not needed, or wait for them",
		o.queued, o.rotation.Spec.SecureNotesRef.Name)
}

// step is the heart: a rotation that has its turn.
func step(o observed) decision {
	kr := o.rotation
	if !hasTurn(kr) {
		return stepOfTurn(o)
	}
	if d, found := stepOfKey(o); found {
		return d
	}
	if rotations.Compromise(kr) {
		if d, found := stepOfCompromise(o); found {
			return d
		}
	}
	switch {
	case o.reencrypt.Identity.Known() && kr.Status.ReencryptJobUID == "":
		return decision{action: actionRecordReencryptJob}
	case o.verify.Identity.Known() && kr.Status.VerifyJobUID == "":
		return decision{action: actionRecordVerifyJob}
	case !rotations.IsTrue(kr, v1alpha1.ConditionReencrypted) && o.reencrypt.Phase == trustedjob.Absent && kr.Status.ReencryptJobUID != "":
		return decision{action: actionForgetReencryptJob}
	case !rotations.IsTrue(kr, v1alpha1.ConditionReencrypted):
		return byJob(o, o.reencrypt, "re-encryption", v1alpha1.ReasonReencrypting, actionCreateReencrypt, actionRecordReencrypted)
	case !rotations.IsTrue(kr, v1alpha1.ConditionVerified) && o.verify.Phase == trustedjob.Absent && kr.Status.VerifyJobUID != "":
		return decision{action: actionForgetVerifyJob}
	case !rotations.IsTrue(kr, v1alpha1.ConditionVerified):
		return byJob(o, o.verify, "verification", v1alpha1.ReasonVerifying, actionCreateVerify, actionRecordVerified)
	case !o.retirementRecorded:
		return decision{action: actionRecordRetirement}
	case awaitsRevocation(kr, o.parent):
		return decision{action: actionRevokeCredentials}
	case awaitsRestart(kr):
		return waitForWorkload(o.parent, v1alpha1.ReasonRestartingPods, "waits until every pod of the API has restarted with the new session keys",
			"whether an old pod with the labels of the API does not end, as on a node that is lost")
	default:
		return decision{action: actionComplete}
	}
}

// stepOfTurn decides what comes before a rotation may change anything. Two that both went on might make the same version
// theirs, and with it the names of the Jobs.
func stepOfTurn(o observed) decision {
	switch first := o.rotation.Status.FromVersion == nil; {
	case first && o.inTheWay != nil:
		return wait(v1alpha1.ReasonRotatingKey, "takes over from KeyRotation %s", o.inTheWay.Name)
	case first && o.key != nil && o.key.Latest < o.newest:
		return restored(o.key.Latest, o.newest)
	case first:
		return decision{action: actionRecordFrom}
	default:
		return decision{action: actionRecordTurn}
	}
}

// stepOfKey decides what depends on the key's versions.
func stepOfKey(o observed) (d decision, found bool) {
	if o.key == nil {
		return decision{}, false
	}
	from, to := *o.rotation.Status.FromVersion, o.rotation.Status.ToVersion
	switch {
	case o.key.Latest < from:
		return restored(o.key.Latest, from), true
	case to == nil && o.key.Latest == from:
		return decision{action: actionRotateKey}, true
	case to == nil:
		return decision{action: actionRecordTo}, true
	case o.key.Latest < *to:
		return restored(o.key.Latest, *to), true
	case o.key.MinEncryption < *to:
		return decision{action: actionRaiseMinEncryption}, true
	default:
		return decision{}, false
	}
}

// restored is the end of a rotation that finds fewer versions than there were. A version made now would have
// the number of one that the database may use, and open nothing that is under it: none is made.
func restored(latest, known int64) decision {
	return fail(v1alpha1.ReasonKeyRestored, "the key's latest version is %d, but there was a version %d: %s", latest, known, rotations.RestoreVaultAdvice)
}

// needsKey says whether the next step depends on the key's versions: not while Jobs are at work,
// when Vault would be asked every other second for nothing. A Job that failed may have found that Vault
// was restored to an earlier state.
func needsKey(kr *v1alpha1.KeyRotation, reencrypt, verify trustedjob.Outcome) bool {
	if !rotations.Started(kr) || rotations.Ended(kr) {
		return false
	}
	if kr.Status.ToVersion == nil || verify.Phase == trustedjob.Failed {
		return true
	}
	return (reencrypt.Phase == trustedjob.Absent || reencrypt.Phase == trustedjob.Failed) && !rotations.IsTrue(kr, v1alpha1.ConditionReencrypted)
}

// waitForWorkload waits for what the SecureNotes' own reconciler makes, and repeats why it cannot.
func waitForWorkload(parent *v1alpha1.SecureNotes, reason, what, see string) decision {
	c := meta.FindStatusCondition(parent.Status.Conditions, v1alpha1.ConditionWorkloadReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason == v1alpha1.ReasonProgressing {
		return wait(reason, "%s: if it takes long, see the condition WorkloadReady of SecureNotes %s, and %s", what, parent.Name, see)
	}
	d := wait(reason, "%s: %s", what, c.Message)
	d.cause = cause.Cause{Reason: c.Reason, Message: c.Message}
	return d
}

func byJob(o observed, job trustedjob.Outcome, what, running string, create, done action) decision {
	switch job.Phase {
	case trustedjob.Absent:
		return decision{action: create}
	case trustedjob.Complete:
		return decision{action: done}
	case trustedjob.Failed:
		reason := job.Reason
		if reason == "" {
			reason = v1alpha1.ReasonJobFailed
		}
		if reason == config.ReasonSuperseded {
			return failForGood(reason, "%s", job.Message)
		}
		return fail(reason, "%s", job.Message)
	case trustedjob.Foreign:
		return foreignJob(job.Message)
	default:
		if job.Cause.Known() {
			return hindered(o, job.Cause, running)
		}
		return wait(running, "the %s Job is running", what)
	}
}

// hindered waits for what does not come for a cause that a person can put right, or ends a rotation
// that somebody has deleted: it would hold its object for ever.
func hindered(o observed, c cause.Cause, step string) decision {
	if o.givenUp {
		return failForGood(c.Reason, "it was deleted while it could not go on: %s. The old version still decrypts", c)
	}
	note := "To give this rotation up, delete it"
	if o.rotation.DeletionTimestamp != nil {
		note = "This KeyRotation is being deleted, and is given up within a minute"
	}
	d := wait(step, "%s. %s", c, note)
	d.cause, d.mayGiveUp = c, true
	return d
}

func foreignJob(message string) decision {
	return fail(v1alpha1.ReasonNameConflict, "%s", message)
}

// withoutParent ends what cannot go on, and lets the object go.
func withoutParent(o observed) decision {
	if o.rotation.DeletionTimestamp != nil || o.parent != nil {
		return released(o)
	}
	if rotations.Ended(o.rotation) {
		return released(o)
	}
	if rotations.Started(o.rotation) {
		return failForGood(v1alpha1.ReasonSecureNotesNotFound,
			"SecureNotes %s, which this KeyRotation belongs to, is gone: delete this KeyRotation", o.rotation.Spec.SecureNotesRef.Name)
	}
	if tooMany(o) {
		return refused(o)
	}
	return wait(v1alpha1.ReasonSecureNotesNotFound, "SecureNotes %s does not exist in this namespace: create it, or delete this KeyRotation", o.rotation.Spec.SecureNotesRef.Name)
}

// released removes the finalizer and records in the metadata that the rotation has ended, once;
// then there is nothing left to do.
func released(o observed) decision {
	kr := o.rotation
	if rotations.HasFinalizer(kr) {
		return decision{action: actionRelease}
	}
	if rotations.Ended(kr) && !markedEnded(kr) && len(kr.Annotations) < maxAnnotations && kr.DeletionTimestamp == nil {
		return decision{action: actionRecordEnded}
	}
	return decision{action: actionNone}
}

func gone(parent *v1alpha1.SecureNotes) bool { return parent == nil || parent.DeletionTimestamp != nil }

func wait(reason, format string, args ...any) decision {
	return decision{action: actionWait, reason: reason, message: fmt.Sprintf(format, args...)}
}

// held waits for what somebody does to the SecureNotes. A rotation that has started is not let go
// meanwhile, though it is deleted: what it has half done, as of a Compromise, would be forgotten.
func held(kr *v1alpha1.KeyRotation, reason, format string, args ...any) decision {
	d := wait(reason, format, args...)
	if kr.DeletionTimestamp != nil {
		d.message += ". Its deletion waits for that too: it has started, and goes to its end before it is gone"
	}
	return d
}

// fail ends an attempt. Whoever puts the cause right can have it tried again.
func fail(reason, format string, args ...any) decision {
	return decision{action: actionFail, reason: reason, message: fmt.Sprintf(format, args...)}
}

// failForGood ends a rotation that nobody can put right.
func failForGood(reason, format string, args ...any) decision {
	d := fail(reason, format, args...)
	d.forGood = true
	return d
}
