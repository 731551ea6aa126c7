package notesrestore

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// restoration is the Job that restores the backup.
var restoration = steps.Job[*Reconciler, observed]{
	Name: "Restore", Noun: "restore",
	Running: v1alpha1.ReasonRestoring, DoneStep: "RecordReport",
	Pending:  func(o observed) bool { return !restores.Loaded(o.restore) },
	Record:   func(ctx context.Context, r *Reconciler, o observed) error { return r.recordReport(ctx, o) },
	Outcome:  func(o observed) trustedjob.Outcome { return o.job },
	Recorded: func(o observed) trustedjob.Identity { return recorded(o.restore) },
	SetIdentity: func(ctx context.Context, r *Reconciler, o observed, identity trustedjob.Identity) error {
		return r.patchStatus(ctx, o.restore, func(s *v1alpha1.NotesRestoreStatus) {
			s.JobUID, s.JobDigest = string(identity.UID), identity.Digest
		})
	},
	Expected: expected,
	Clients:  func(r *Reconciler) (client.Writer, client.Reader) { return r.Client, r.Live },
	Fail:     func(ctx context.Context, r *Reconciler, o observed, d decision) error { return r.fail(ctx, o, d) },
	Blocked:  blocked,
	KeyName:  func(o observed) string { return operand.RestoreJobName(o.restore) },
}

// recorded returns the recorded identity of the Job.
func recorded(nr *v1alpha1.NotesRestore) trustedjob.Identity {
	return trustedjob.Identity{UID: types.UID(nr.Status.JobUID), Digest: nr.Status.JobDigest}
}

// expected returns the Job of a restore.
func expected(r *Reconciler, o observed) trustedjob.Expected {
	nr := o.restore
	key := client.ObjectKey{Namespace: nr.Namespace, Name: operand.RestoreJobName(nr)}
	return trustedjob.Expected{Key: key, Owner: nr, Recorded: recorded(nr), Pods: 1, Reports: true, Build: func(context.Context) (*batchv1.Job, error) {
		env, err := r.environmentOf(o.parent)
		if err != nil {
			return nil, err
		}
		cm, err := operand.RestoreConfigMap(nr, o.parent, env)
		if err != nil {
			return nil, err
		}
		return operand.RestoreJob(nr, o.parent, env, cm.Name), nil
	}}
}

// recordReport records what the Job reported, and with it that the database is restored.
func (r *Reconciler) recordReport(ctx context.Context, o observed) error {
	nr := o.restore
	report, err := cause.ReadRestoreReport(o.job.Report, nr.Spec.ID, nr.Spec.EscrowIdentitySecretRef != nil)
	var d decision
	switch {
	case err != nil:
		d, _ = steps.Failing(v1alpha1.ReasonJobFailed, "Job %s is complete, but %s. So it is not known which deployment the database has: see the log of its pod", o.job.Name, err)
	case !report.FromEscrow && report.DeploymentID != o.parent.Status.DeploymentID:
		d, _ = steps.Failing(v1alpha1.ReasonJobFailed, "Job %s is complete, but its pod reported another deployment than that of the SecureNotes, which only a restore from the escrow brings", o.job.Name)
	default:
		return r.patchStatus(ctx, nr, func(s *v1alpha1.NotesRestoreStatus) {
			s.DeploymentID, s.FromEscrow = report.DeploymentID, report.FromEscrow
			s.Rows, s.Notes, s.Accounts, s.Damaged = report.Rows, report.Notes, report.Accounts, report.Damaged
			if report.FromEscrow {
				s.Pepper = &v1alpha1.RecordedSecret{Entry: report.PepperEntry, Digest: report.PepperDigest}
			}
			setWaiting(nr, s, v1alpha1.ReasonRecording, "records which deployment the database has")
		})
	}
	if err := r.fail(ctx, o, d); err != nil {
		return err
	}
	return steps.ErrNotTaken
}
