package keyrotation

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
)

// steps are the steps of a rotation in order of priority. The first step that is due is taken, and
// the list is walked again, until one waits or nothing is left to do. The package comment has the
// same numbers. They give the usual order in time, which differs: 7a comes first here because a
// rotation that has ended has no other step left. Each step is declared in one place, in the file
// of its group.
var steps = slices.Concat(
	[]step{
		// Has the rotation ended? end.go
		retry,
		recordRetired, // 7a, retirement.go
		release,
		recordEnded,
		stopEnded,

		// May it run at all? admission.go
		failOrphaned,
		adopt,
		failForeign,
		recordRestored,
		failTooMany,
		awaitSecureNotes,
		awaitResume,
		awaitKeyOwner,
		awaitMasterKey,
		awaitResources,

		// 1 and 2, the turn: turn.go
		awaitTurn,
		failSuperseded,
		failOvertaken,
		guard,
		start,
		awaitSuperseded,
		failKeyLost,
		recordFrom,
		recordTurn,

		// 3 and 4, a new version of the master key: version.go
		failKeyRestored,
		rotateKey,
		recordTo,
		raiseMinEncryption,

		// 4a, the service accounts: accounts.go
		failForeignAccount,
		recordAccounts,
		deleteAccounts,
		awaitAccounts,
		recordAccountsRecreated,

		// 4b, the database users: databasecredentials.go
		revokeDatabaseCredentials,

		// 4c, the backup key: backupkey.go
		recordBackupKey,
		replaceBackupKey,

		// 4d and 6a, the session keys: sessionkeys.go
		replaceSessionKeys,
		deleteOldSessionKeys,
	},
	jobSteps(reencryption), // 5 and 5a: job.go, reencrypt.go
	jobSteps(verification), // 6: job.go, verify.go
	[]step{
		// 7, the end
		recordRetirement,               // retirement.go
		revokeDatabaseCredentialsAgain, // 4b
		awaitRestart,                   // 6a
		complete,                       // end.go
	},
)

// step is one thing that a rotation does.
type step struct {
	name string
	// due decides from what was observed whether the step comes now, and whether it is taken. It is
	// a pure function. It may rely on every earlier step not being due.
	due func(observed) (decision, bool)
	// do takes the step. It is nil if due never decides so. An [errNotTaken] says that it did not.
	do func(context.Context, *Reconciler, observed) error
	// job returns the name of the Job that the step is about, for the log. It may be nil.
	job func(observed) string
}

// errNotTaken says that a step found a reason not to be taken, and dealt with it. The list is
// walked again, but the log must not show the step.
var errNotTaken = errors.New("the step was not taken")

// verdict is what becomes of a step that is due.
type verdict string

const (
	// take takes the step. Then the list is walked again.
	take verdict = ""
	// wait takes no step until something changes.
	wait verdict = "Wait"
	// fail ends the rotation as Failed.
	fail verdict = "Fail"
	// stop means that nothing is left to do.
	stop verdict = "None"
)

// decision is what becomes of a step that is due, and what to tell people about it.
type decision struct {
	verdict         verdict
	reason, message string
	// cause is why what is waited for does not happen.
	cause cause.Cause
	// mayAbandon says that a rotation that is deleted does not wait until it has ended.
	mayAbandon bool
	// final means that a retry of the failed rotation cannot succeed.
	final bool
}

// next returns the step that is due, and its decision.
func next(o observed) (step, decision) {
	for _, s := range steps {
		d, due := s.due(o)
		if !due {
			continue
		}
		if d.verdict == wait && !d.mayAbandon {
			d.message += deletionNote(o.rotation)
		}
		return s, d
	}
	return stopEnded, decision{verdict: stop}
}

// when has a step taken whenever condition holds.
func when(condition func(observed) bool) func(observed) (decision, bool) {
	return func(o observed) (decision, bool) { return decision{}, condition(o) }
}

// waiting returns the decision to wait.
func waiting(reason, format string, args ...any) (decision, bool) {
	return decision{verdict: wait, reason: reason, message: fmt.Sprintf(format, args...)}, true
}

// failing returns the decision to fail. A retry is possible once the cause is corrected.
func failing(reason, format string, args ...any) (decision, bool) {
	return decision{verdict: fail, reason: reason, message: fmt.Sprintf(format, args...)}, true
}

// failingForGood returns the decision to fail where a retry cannot succeed.
func failingForGood(reason, format string, args ...any) (decision, bool) {
	d, due := failing(reason, format, args...)
	d.final = true
	return d, due
}

// notDue is the decision of a step that is not due.
func notDue() (decision, bool) { return decision{}, false }

// deletionNote says why a started rotation that was deleted is still there.
func deletionNote(kr *v1alpha1.KeyRotation) string {
	if kr.DeletionTimestamp == nil {
		return ""
	}
	return ". This KeyRotation is being deleted: because it has started, it completes or fails first"
}

// blocked waits for something that a person can correct, or abandons a rotation that was deleted:
// it would otherwise keep its object forever.
func blocked(o observed, c cause.Cause, reason string) (decision, bool) {
	if o.abandoned {
		return failingForGood(c.Reason, "the KeyRotation was deleted while it was blocked: %s. It has not finished, so the old key version still decrypts", c)
	}
	note := "To abandon this rotation, delete it"
	if o.rotation.DeletionTimestamp != nil {
		note = "This KeyRotation is being deleted, and is abandoned within a minute"
	}
	d, due := waiting(reason, "%s. %s", c, note)
	d.cause, d.mayAbandon = c, true
	return d, due
}

// waitingForWorkload waits for what the reconciler of the SecureNotes creates, and repeats why it
// cannot.
func waitingForWorkload(parent *v1alpha1.SecureNotes, reason, what, check string) (decision, bool) {
	c := meta.FindStatusCondition(parent.Status.Conditions, v1alpha1.ConditionWorkloadReady)
	if c == nil || c.Status != metav1.ConditionFalse || c.Reason == v1alpha1.ReasonProgressing {
		return waiting(reason, "%s: if it takes long, see the condition WorkloadReady of SecureNotes %s, and %s", what, parent.Name, check)
	}
	d, due := waiting(reason, "%s: %s", what, c.Message)
	d.cause = cause.Cause{Reason: c.Reason, Message: c.Message}
	return d, due
}
