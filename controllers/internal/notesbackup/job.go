package notesbackup

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/cause"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// backupJob is the Job that writes a backup.
var backupJob = steps.Job[*Reconciler, observed]{
	Name: "Backup", Noun: "backup",
	Running: v1alpha1.ReasonBackingUp, DoneStep: "Complete",
	Pending:  func(o observed) bool { return !backups.Ended(o.backup) },
	Record:   func(ctx context.Context, r *Reconciler, o observed) error { return r.complete(ctx, o) },
	Outcome:  func(o observed) trustedjob.Outcome { return o.job },
	Recorded: func(o observed) trustedjob.Identity { return recorded(o.backup) },
	SetIdentity: func(ctx context.Context, r *Reconciler, o observed, identity trustedjob.Identity) error {
		return r.setIdentity(ctx, o, identity)
	},
	Expected: expected,
	Clients:  func(r *Reconciler) (client.Writer, client.Reader) { return r.Client, r.Live },
	Fail:     func(ctx context.Context, r *Reconciler, o observed, d decision) error { return r.fail(ctx, o, d) },
	Blocked:  blocked,
	KeyName:  func(o observed) string { return jobKey(o.backup).Name },
}

func jobKey(nb *v1alpha1.NotesBackup) client.ObjectKey {
	return client.ObjectKey{Namespace: nb.Namespace, Name: operand.BackupJobName(nb.Name)}
}

// recorded returns the recorded identity of the Job.
func recorded(nb *v1alpha1.NotesBackup) trustedjob.Identity {
	return trustedjob.Identity{UID: types.UID(nb.Status.JobUID), Digest: nb.Status.JobDigest}
}

// setIdentity records the identity of the Job, and where it writes: the Job is of this spec.backup,
// which may change later.
func (r *Reconciler) setIdentity(ctx context.Context, o observed, identity trustedjob.Identity) error {
	return r.patchStatus(ctx, o.backup, func(s *v1alpha1.NotesBackupStatus) {
		s.JobUID, s.JobDigest, s.Location = string(identity.UID), identity.Digest, ""
		if identity.Known() {
			s.Location = operand.BackupLocation(o.parent.Spec.Backup.Destination)
		}
	})
}

// expected returns the Job of a backup.
func expected(r *Reconciler, o observed) trustedjob.Expected {
	nb, key := o.backup, jobKey(o.backup)
	return trustedjob.Expected{Key: key, Owner: nb, Recorded: recorded(nb), Pods: 1, Reports: true, Build: func(ctx context.Context) (*batchv1.Job, error) {
		env, err := r.environment(o.parent)
		if err != nil {
			return nil, err
		}
		cm, err := operand.BackupConfigMap(nb, o.parent, env)
		if err != nil {
			return nil, err
		}
		least, err := trustedjob.LeastCPU(ctx, r.Live, o.parent)
		if err != nil {
			return nil, err
		}
		return operand.BackupJob(o.parent, env, operand.BackupWork{
			Owner: metav1.NewControllerRef(nb, v1alpha1.GroupVersion.WithKind("NotesBackup")), Name: key.Name, ConfigMap: cm.Name, LeastCPU: least,
		}), nil
	}}
}

// complete records what the Job reported, and with it that the backup is complete.
func (r *Reconciler) complete(ctx context.Context, o observed) error {
	nb := o.backup
	report, err := cause.ReadBackupReport(o.job.Report, nb.Status.StartTime.Time, r.Now())
	if err != nil {
		d, _ := steps.Failing(v1alpha1.ReasonJobFailed,
			"Job %s is complete, but %s. So it is not known whether there is a backup: see the log of its pod", o.job.Name, err)
		if err := r.fail(ctx, o, d); err != nil {
			return err
		}
		return steps.ErrNotTaken
	}
	if err := r.patchStatus(ctx, nb, func(s *v1alpha1.NotesBackupStatus) { setComplete(nb, s, report, r.Now()) }); err != nil {
		return err
	}
	r.event(nb, o.parent, corev1.EventTypeNormal, v1alpha1.ReasonComplete, completeMessage(nb))
	return nil
}
