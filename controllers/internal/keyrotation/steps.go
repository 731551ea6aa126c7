package keyrotation

import (
	"slices"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// list has the steps of a rotation in order of priority. The first step that is due is taken, and
// the list is walked again, until one waits or nothing is left to do. The package comment has the
// same numbers. They give the usual order in time, which differs: 7a comes first here because a
// rotation that has ended has no other step left. Each step is declared in one place, in the file
// of its group.
var list = slices.Concat(
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
	},
	steps.AwaitReady[*Reconciler](func(o observed) *v1alpha1.SecureNotes { return o.parent }),
	[]step{
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
		stopBackups,
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
	reencryption.steps(), // 5 and 5a: job.go, reencrypt.go
	verification.steps(), // 6: job.go, verify.go
	[]step{
		// 7, the end
		recordRetirement,               // retirement.go
		revokeDatabaseCredentialsAgain, // 4b
		awaitRestart,                   // 6a
		complete,                       // end.go
	},
)

// A rotation has the steps of package steps.
type (
	step     = steps.Step[*Reconciler, observed]
	decision = steps.Decision
)

// next returns the step that is due, and its decision.
func next(o observed) (step, decision) {
	s, d := steps.Next(list, o)
	if d.Verdict == steps.Wait && !d.MayAbandon {
		d.Message += deletionNote(o.rotation)
	}
	return s, d
}

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
		return steps.FailingForGood(c.Reason, "the KeyRotation was deleted while it was blocked: %s. It has not finished, so the old key version still decrypts", c)
	}
	note := "To abandon this rotation, delete it"
	if o.rotation.DeletionTimestamp != nil {
		note = "This KeyRotation is being deleted, and is abandoned within a minute"
	}
	d, due := steps.Waiting(reason, "%s. %s", c, note)
	d.Cause, d.MayAbandon = c, true
	return d, due
}
