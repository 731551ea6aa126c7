package notesbackup

import (
	"context"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/backups"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/secretrecord"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// observed is everything that a decision depends on.
type observed struct {
	backup *v1alpha1.NotesBackup
	// parent is nil if the SecureNotes does not exist or is being deleted, or if the backup began
	// with an earlier one of the same name.
	parent *v1alpha1.SecureNotes
	// queued is the number of older backups that have not ended.
	queued int
	// ahead is the backup that this one waits for; nil if it may start.
	ahead *v1alpha1.NotesBackup
	// restoring is a NotesRestore that has started; nil if there is none. It is observed while
	// there is no Job: in the cache before the start, and past it afterwards.
	restoring *v1alpha1.NotesRestore
	// rolledOut says that every pod of the API is of the current Deployment.
	rolledOut bool
	// setupCommand is what the Vault administrator runs if the backup key is missing.
	setupCommand string
	// configuration is the state of the ConfigMap that the Job needs, if it has none yet.
	configuration steps.Configuration
	// job is the Job. It is absent until the backup has started.
	job trustedjob.Outcome
	// leftover is the Job of a failed backup that has not ended; nil if there is none.
	leftover *batchv1.Job
}

// observe reads what the next step depends on, and no more.
func (r *Reconciler) observe(ctx context.Context, nb *v1alpha1.NotesBackup) (observed, error) {
	o := observed{backup: nb, job: trustedjob.Outcome{Phase: trustedjob.Absent}}
	if backups.Ended(nb) {
		return o, r.observeLeftover(ctx, &o)
	}
	if err := r.observeParent(ctx, &o); err != nil {
		return o, err
	}
	if err := r.observeQueue(ctx, &o); err != nil {
		return o, err
	}
	if !backups.Started(nb) {
		var err error
		o.restoring, err = restores.Running(ctx, r.Client, nb.Namespace, nb.Spec.SecureNotesRef.Name)
		return o, err
	}
	// The Job whose identity is not recorded is compared with the one that would be created.
	if configured(o) || recorded(nb).Known() {
		lookup := r.lookups.Live(ctx, r.Live, r.Now, nb.UID)
		var err error
		if o.job, err = expected(r, o).Read(ctx, r.Client, r.Live, lookup, r.Now()); err != nil {
			return o, err
		}
	}
	if o.job.Phase != trustedjob.Absent || !configured(o) {
		return o, nil
	}
	var err error
	if o.restoring, err = restores.Active(ctx, r.Live, nb.Namespace, nb.Spec.SecureNotesRef.Name); err != nil || o.restoring != nil {
		return o, err
	}
	return o, r.observeConfiguration(ctx, &o)
}

// configured reports whether there is a SecureNotes with spec.backup.
func configured(o observed) bool { return o.parent != nil && o.parent.Spec.Backup != nil }

// observeLeftover reads the Job of a failed backup.
func (r *Reconciler) observeLeftover(ctx context.Context, o *observed) error {
	nb := o.backup
	if !backups.Failed(nb) || !backups.Started(nb) {
		return nil
	}
	job := &batchv1.Job{}
	err := r.Client.Get(ctx, jobKey(nb), job)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	if metav1.IsControlledBy(job, nb) && job.DeletionTimestamp == nil && !trustedjob.Ended(job) {
		o.leftover = job
	}
	return nil
}

// observeParent reads the SecureNotes and the state of its pods.
func (r *Reconciler) observeParent(ctx context.Context, o *observed) error {
	nb := o.backup
	key := client.ObjectKey{Namespace: nb.Namespace, Name: nb.Spec.SecureNotesRef.Name}
	parent := &v1alpha1.SecureNotes{}
	if err := r.Client.Get(ctx, key, parent); err != nil {
		return client.IgnoreNotFound(err)
	}
	if started := nb.Status.SecureNotesUID; parent.DeletionTimestamp != nil || started != "" && started != string(parent.UID) {
		return nil
	}
	o.parent = parent
	if connection, ok := r.Connection(operand.VaultConnection(parent)); ok {
		o.setupCommand = r.SetupCommand(connection, parent)
	}
	deployment := &appsv1.Deployment{}
	err := r.Client.Get(ctx, key, deployment)
	o.rolledOut = err == nil && operand.RolledOut(deployment)
	return client.IgnoreNotFound(err)
}

// observeQueue reads the other open backups of the SecureNotes.
func (r *Reconciler) observeQueue(ctx context.Context, o *observed) error {
	nb := o.backup
	open, err := backups.ListOpen(ctx, r.Client, nb.Namespace, nb.Spec.SecureNotesRef.Name)
	if err != nil {
		return err
	}
	o.ahead = ahead(nb, open)
	for i := range open {
		if other := &open[i]; other.UID != nb.UID && backups.ByAge(other, nb) < 0 {
			o.queued++
		}
	}
	return nil
}

// observeConfiguration reads past the cache, which has no data of ConfigMaps.
func (r *Reconciler) observeConfiguration(ctx context.Context, o *observed) error {
	env, err := r.environment(o.parent)
	if err != nil {
		return err
	}
	desired, invalid := operand.BackupConfigMap(o.backup, o.parent, env)
	o.configuration, err = steps.ReadConfiguration(ctx, r.Live, o.backup, desired, invalid)
	return err
}

// environment returns what the operands of a SecureNotes get.
func (r *Reconciler) environment(parent *v1alpha1.SecureNotes) (operand.Environment, error) {
	env := r.Environment
	if err := operand.CheckClusterID(parent, env.ClusterID); err != nil {
		return env, err
	}
	name := operand.VaultConnection(parent)
	connection, ok := r.Connection(name)
	if !ok {
		return env, vaultadmin.UnknownConnectionError(name)
	}
	pepper := secretrecord.Get(&parent.Status).Pepper
	env.Connection, env.DeploymentID = connection, parent.Status.DeploymentID
	env.Pepper, env.PepperDigest = pepper.Entry, pepper.Digest
	return env, nil
}
