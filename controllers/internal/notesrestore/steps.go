package notesrestore

import (
	"slices"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// step, decision and the like are those of a restore.
type (
	step     = steps.Step[*Reconciler, observed]
	decision = steps.Decision
)

// list are the steps of a restore in order of priority. Each is declared in one place, in the file
// of its group.
var list = slices.Concat(
	[]step{
		// Has the restore ended? end.go
		deleteAccount,
		release,
		recordEnded,
		stopEnded,
		recordRestored,

		// Is it to stop? end.go
		deleteJob,
		awaitJobGone,
		failStopped,

		// May it run at all? turn.go
		awaitSecureNotes,
	},
	// What is waited for does not concern a Job that exists.
	steps.Only(withoutJob, slices.Concat(
		steps.AwaitReady[*Reconciler](func(o observed) *v1alpha1.SecureNotes { return o.parent }),
		[]step{
			failNoDestination,

			// The turn: turn.go
			awaitTurn,
			recordQueued,
			guard,
			start,
			recordTurn,

			// What the Job needs: still.go
			awaitStill,
			createAccount,
			createConfiguration,
		},
	)),
	restoration.Steps(), // job.go
	[]step{
		// What the database has now: record.go
		recordDeployment,
		annotateVolume,
		queueRotation,

		complete, // end.go
	},
)

// withoutJob reports whether the restore needs a Job and has none.
func withoutJob(o observed) bool {
	return restoration.Pending(o) && o.job.Phase == trustedjob.Absent
}

// next returns the step that is due, and its decision.
func next(o observed) (step, decision) {
	s, d := steps.Next(list, o)
	if d.Verdict == steps.Wait {
		d.Message += deletionNote(o.restore)
	}
	return s, d
}

// deletionNote says why a restore that was deleted is still there.
func deletionNote(nr *v1alpha1.NotesRestore) string {
	if nr.DeletionTimestamp == nil {
		return ""
	}
	return ". This NotesRestore is being deleted, and ends first"
}
