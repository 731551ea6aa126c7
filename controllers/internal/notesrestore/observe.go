package notesrestore

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/steps"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// observed is everything that a decision depends on.
type observed struct {
	restore *v1alpha1.NotesRestore
	// parent is nil if the SecureNotes does not exist, or if the restore has started for an earlier
	// one of its name.
	parent *v1alpha1.SecureNotes
	// ahead describes what the queued restore waits for; empty if it may start.
	ahead string
	// job is the Job. It is absent before the turn is certain, and once its success is recorded.
	job trustedjob.Outcome
	// moving says why the SecureNotes does not stand still yet; empty if it does. It is observed
	// only while there is no Job.
	moving string
	// account is the service account of the Job; nil if there is none.
	account *corev1.ServiceAccount
	// configuration is the ConfigMap that the Job is to have, if there is no Job.
	configuration steps.Configuration
	// leftover says which pod of the Job may still run; empty if none may. It is observed only
	// while the restore stops.
	leftover string
	// volume is the claim of an embedded database; nil if there is none. It is observed only once
	// the database is restored.
	volume *corev1.PersistentVolumeClaim
}

// stops reports whether a started restore is to end although its Job has not succeeded.
func (o observed) stops() bool {
	nr := o.restore
	return restores.Started(nr) && !restores.Ended(nr) && !restores.Loaded(nr) && (nr.DeletionTimestamp != nil || gone(o.parent))
}

// gone reports whether a SecureNotes does not exist or is being deleted.
func gone(parent *v1alpha1.SecureNotes) bool { return parent == nil || parent.DeletionTimestamp != nil }

// observe reads what the next step depends on, and no more.
func (r *Reconciler) observe(ctx context.Context, nr *v1alpha1.NotesRestore) (observed, error) {
	o := observed{restore: nr, job: trustedjob.Outcome{Phase: trustedjob.Absent}}
	if restores.Ended(nr) {
		if !restores.HasFinalizer(nr) {
			return o, nil
		}
		return o, r.observeAccount(ctx, &o)
	}
	parent := &v1alpha1.SecureNotes{}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: nr.Namespace, Name: nr.Spec.SecureNotesRef.Name}, parent)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return o, err
	case nr.Status.SecureNotesUID == "", nr.Status.SecureNotesUID == string(parent.UID):
		o.parent = parent
	}
	if !restores.Started(nr) {
		o.ahead, err = r.aheadInCache(ctx, nr)
		return o, err
	}
	if !restores.Certain(nr) {
		return o, nil
	}
	return o, r.observeWork(ctx, &o)
}

// observeWork reads the Job and what it needs, or what the database is to be recorded in.
func (r *Reconciler) observeWork(ctx context.Context, o *observed) error {
	nr := o.restore
	if restores.Loaded(nr) {
		return r.observeVolume(ctx, o)
	}
	if gone(o.parent) && !recorded(nr).Known() {
		return r.observeStray(ctx, o)
	}
	var err error
	if o.job, err = expected(r, *o).Read(ctx, r.Client, r.Live, r.lookups.Live(ctx, r.Live, r.Now, nr.UID), r.Now()); err != nil {
		return err
	}
	switch {
	case o.stops():
		o.leftover, err = r.leftover(ctx, nr)
		return err
	case o.job.Phase != trustedjob.Absent || operand.RestoreDestination(nr, o.parent) == nil:
		return nil
	}
	if o.moving, err = r.moving(ctx, o.parent); err != nil || o.moving != "" {
		return err
	}
	if err := r.observeAccount(ctx, o); err != nil {
		return err
	}
	return r.observeConfiguration(ctx, o)
}

// observeStray reads a Job that was created and not recorded, without a SecureNotes to compare it
// with. It is to be deleted.
func (r *Reconciler) observeStray(ctx context.Context, o *observed) error {
	job := &batchv1.Job{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.restore.Namespace, Name: operand.RestoreJobName(o.restore)}, job)
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	if err == nil && metav1.IsControlledBy(job, o.restore) {
		o.job = trustedjob.Outcome{Name: job.Name, Phase: trustedjob.Running, Identity: trustedjob.Identity{UID: job.UID}}
	}
	o.leftover, err = r.leftover(ctx, o.restore)
	return err
}

// observeAccount reads past the cache: the account of an earlier restore may just have been
// deleted.
func (r *Reconciler) observeAccount(ctx context.Context, o *observed) error {
	account := &corev1.ServiceAccount{}
	key := client.ObjectKey{Namespace: o.restore.Namespace, Name: operand.RestoreServiceAccount(o.restore.Spec.SecureNotesRef.Name)}
	err := r.Live.Get(ctx, key, account)
	if err == nil {
		o.account = account
	}
	return client.IgnoreNotFound(err)
}

// ownAccount reports whether the restore controls the account.
func (o observed) ownAccount() bool {
	return o.account != nil && metav1.IsControlledBy(o.account, o.restore)
}

func (r *Reconciler) observeVolume(ctx context.Context, o *observed) error {
	if o.parent == nil || !operand.IsEmbedded(o.parent) {
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.parent.Namespace, Name: operand.ClaimName(o.parent.Name)}, claim)
	if err == nil {
		o.volume = claim
	}
	return client.IgnoreNotFound(err)
}
