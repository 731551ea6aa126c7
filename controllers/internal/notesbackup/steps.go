package notesbackup

import (
	"slices"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// A backup has the steps of package steps.
type (
	step     = steps.Step[*Reconciler, observed]
	decision = steps.Decision
)

// list has the steps of a backup in order of priority. Each step is declared in one place, in the
// file of its group.
var list = slices.Concat(
	[]step{
		// Has the backup ended? end.go
		recordEnded,
		stopJob,
		stopEnded,
		recordRestored,

		// May it run at all? admission.go
		failTooMany,
		failOrphaned,
		failNotConfigured,
		failConfiguration,
	},
	// What is waited for does not concern a Job that exists.
	steps.Only(withoutJob, slices.Concat(
		[]step{awaitSecureNotes, yield},
		steps.AwaitReady[*Reconciler](func(o observed) *v1alpha1.SecureNotes { return o.parent }),
		[]step{
			awaitBackupKey, awaitDatabase, awaitRollout, awaitTurn,

			// 2 and 3, the start: start.go
			start,
			createConfiguration,
		},
	)),
	backupJob.Steps(), // 4 and 5: job.go
)

// next returns the step that is due, and its decision.
func next(o observed) (step, decision) { return steps.Next(list, o) }

// withoutJob reports whether the backup has no Job.
func withoutJob(o observed) bool { return o.job.Phase == trustedjob.Absent }

// blocked waits for something that a person can correct. The deadline of the Job ends it.
func blocked(_ observed, c cause.Cause, reason string) (decision, bool) {
	d, due := steps.Waiting(reason, "%s", c)
	d.Cause = c
	return d, due
}
