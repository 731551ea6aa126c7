package keyrotation

import (
	"context"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
	"github.com/securenotes/securenotes/controllers/internal/vaultadmin"
)

// observed is everything that a decision depends on.
type observed struct {
	rotation *v1alpha1.KeyRotation
	// parent is nil if the SecureNotes does not exist.
	parent *v1alpha1.SecureNotes
	// queued is the number of older rotations with the same spec.reason that have not ended, a
	// running one included.
	queued int
	// ahead is the rotation that this one waits for in the queue; nil if it may start.
	ahead *v1alpha1.KeyRotation
	// restoring is a started NotesRestore; nil if there is none. It is observed while the rotation
	// is queued.
	restoring *v1alpha1.NotesRestore
	// supersededBy is the Compromise that has superseded this rotation; nil if there is none.
	supersededBy *v1alpha1.KeyRotation
	// superseded is the rotation that this Compromise supersedes and that has not ended yet.
	superseded *v1alpha1.KeyRotation
	// overtaken says which rotation has added a newer version than this retried one; nil if none
	// has.
	overtaken error
	// key is the master key in Vault. If it is nil, the steps that depend on it are not due; see
	// needsKey.
	key *vaultadmin.KeyState
	// newest is the newest version of the key that was ever seen.
	newest int64
	// reencrypt and verify are the Jobs of the current attempt. They are zero once their success is
	// recorded.
	reencrypt, verify trustedjob.Outcome
	// retirementRecorded says that the SecureNotes records the retirement.
	retirementRecorded bool
	// accounts and restarted are observed of a Compromise whose next step depends on them: the
	// service accounts, and whether every pod of the API has started with the new session keys.
	accounts  []account
	restarted bool
	// oldBackups are the backup Jobs that run with an account that a Compromise replaces.
	oldBackups []batchv1.Job
	// abandoned says that the rotation was deleted long enough ago to end without having succeeded.
	abandoned bool
}

// observe reads what the next step depends on, and no more. Steps that come late depend on more.
func (r *Reconciler) observe(ctx context.Context, kr *v1alpha1.KeyRotation) (observed, error) {
	o := observed{rotation: kr}
	ended := rotations.Ended(kr)
	if err := r.observeQueue(ctx, &o); err != nil {
		return o, err
	}
	if o.parent == nil || ended || !rotations.Started(kr) || o.supersededBy != nil {
		return o, nil
	}
	all, err := rotations.List(ctx, r.Client, kr.Namespace, o.parent.Name)
	if err != nil {
		return o, err
	}
	o.overtaken = overtaken(kr, o.parent, all)
	if kr.Status.ToVersion != nil && rotations.TurnCertain(kr) {
		if err := r.observeWork(ctx, &o); err != nil {
			return o, err
		}
	}
	if !needsKey(o) {
		return o, nil
	}
	key, err := r.readKey(ctx, o.parent)
	if err != nil && (o.reencrypt.Phase == trustedjob.Failed || o.verify.Phase == trustedjob.Failed) {
		return o, nil // what the Job reported is enough
	}
	if err != nil {
		return o, err
	}
	o.key, o.newest = &key, rotations.NewestVersion(o.parent, all)
	return o, nil
}

// observeQueue reads the SecureNotes and its open rotations.
func (r *Reconciler) observeQueue(ctx context.Context, o *observed) error {
	kr := o.rotation
	var open []v1alpha1.KeyRotation
	var err error
	if !rotations.Ended(kr) {
		if open, err = rotations.ListOpen(ctx, r.Client, kr.Namespace, kr.Spec.SecureNotesRef.Name); err != nil {
			return err
		}
		o.queued = queuedBefore(kr, open)
	}
	if !rotations.Ended(kr) && !rotations.Started(kr) {
		if o.restoring, err = restores.Running(ctx, r.Client, kr.Namespace, kr.Spec.SecureNotesRef.Name); err != nil {
			return err
		}
	}
	parent := &v1alpha1.SecureNotes{}
	err = r.Client.Get(ctx, client.ObjectKey{Namespace: kr.Namespace, Name: kr.Spec.SecureNotesRef.Name}, parent)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	o.parent = parent
	o.abandoned = kr.DeletionTimestamp != nil && r.Now().Sub(kr.DeletionTimestamp.Time) >= abandonAfter
	o.ahead = ahead(kr, open)
	o.supersededBy = startedOther(kr, open, func(other *v1alpha1.KeyRotation) bool { return supersedes(other, kr) })
	o.superseded = startedOther(kr, open, func(other *v1alpha1.KeyRotation) bool { return supersedes(kr, other) })
	return nil
}

// observeWork reads the Jobs and, of a Compromise, what it replaces.
func (r *Reconciler) observeWork(ctx context.Context, o *observed) (err error) {
	kr, parent := o.rotation, o.parent
	lookup := r.lookups.Live(ctx, r.Live, r.Now, kr.UID)
	for _, j := range []job{reencryption, verification} {
		if rotations.IsTrue(kr, j.doneCondition) {
			continue
		}
		if *j.outcome(o), err = j.expected(r, kr, parent).Read(ctx, r.Client, r.Live, lookup, r.Now()); err != nil {
			return err
		}
	}
	o.retirementRecorded = retirement.Recorded(parent.Status.MasterKey, *kr.Status.ToVersion)
	switch {
	case recreatesAccounts(kr):
		if o.accounts, err = r.readAccounts(ctx, parent); err != nil {
			return err
		}
		o.oldBackups, err = r.readOldBackups(ctx, parent, o.accounts)
	case replacesSessionKeys(kr) && hasNewSessionKeys(kr, parent):
		o.restarted, err = r.restarted(ctx, parent)
	}
	return err
}

// needsKey reports whether the key's versions have to be read for the next step. Without them the
// steps failKeyLost, recordFrom, failKeyRestored, rotateKey, recordTo and raiseMinEncryption are
// not due or cannot be taken. Change both together: TestNeedsKey compares them. While a Job runs
// the key is not read, because that would be a request to Vault every other second. A Job that
// failed may have found that Vault was restored to an earlier state.
func needsKey(o observed) bool {
	if o.rotation.Status.ToVersion == nil || o.verify.Phase == trustedjob.Failed {
		return true
	}
	return (o.reencrypt.Phase == trustedjob.Absent || o.reencrypt.Phase == trustedjob.Failed) && !rotations.IsTrue(o.rotation, v1alpha1.ConditionReencrypted)
}
