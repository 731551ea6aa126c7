package keyrotation

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/trustedjob"
)

// perform takes the step that was decided.
func (r *Reconciler) perform(ctx context.Context, o observed, d decision) error {
	kr, parent := o.rotation, o.parent
	switch d.action {
	case actionAdopt:
		return r.patchObject(ctx, kr, func() error {
			return controllerutil.SetControllerReference(parent, kr, r.Client.Scheme())
		})
	case actionGuard:
		return r.patchObject(ctx, kr, func() error {
			controllerutil.AddFinalizer(kr, v1alpha1.Finalizer)
			return nil
		})
	case actionRelease:
		return r.patchObject(ctx, kr, func() error {
			controllerutil.RemoveFinalizer(kr, v1alpha1.Finalizer)
			if rotations.Ended(kr) {
				setEnded(kr)
			}
			return nil
		})
	case actionRecordEnded:
		return r.patchObject(ctx, kr, func() error { setEnded(kr); return nil })
	case actionRecordRestored:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setRestored(kr, s) })
	case actionRetry:
		if err := r.patchObject(ctx, kr, func() error { unsetEnded(kr); return nil }); err != nil {
			return err
		}
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setRetried(kr, s) })
	case actionStart:
		return r.start(ctx, kr)
	case actionRecordFrom, actionRecordTurn:
		return r.recordTurn(ctx, o)
	case actionRotateKey:
		return r.rotateKey(ctx, kr, parent)
	case actionRecordTo:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { s.ToVersion = new(o.key.Latest) })
	case actionRaiseMinEncryption:
		vault, _, err := r.vaultOf(parent)
		if err != nil {
			return err
		}
		return vault.RaiseMinEncryption(ctx, r.keysOf(parent), *kr.Status.ToVersion)
	case actionRecordAccounts:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { recordAccounts(s, o.accounts) })
	case actionDeleteAccounts:
		return r.deleteAccounts(ctx, kr)
	case actionRecordAccountsRecreated:
		return r.record(ctx, kr, parent, v1alpha1.ConditionServiceAccountsRecreated, accountsRecreated(kr))
	case actionRevokeCredentials:
		return r.revokeCredentials(ctx, kr, parent)
	case actionReplaceSessionKeys:
		return r.replaceSessionKeys(ctx, kr, parent)
	case actionDeleteOldSessionKeys:
		return r.deleteOldSessionKeys(ctx, kr, parent)
	case actionCreateReencrypt:
		return r.createJob(ctx, kr, parent, r.reencryptJob(kr, parent), recordReencryptJob)
	case actionCreateVerify:
		return r.createJob(ctx, kr, parent, r.verifyJob(kr, parent), recordVerifyJob)
	case actionRecordReencryptJob:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { recordReencryptJob(s, o.reencrypt.Identity) })
	case actionRecordVerifyJob:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { recordVerifyJob(s, o.verify.Identity) })
	case actionForgetReencryptJob:
		return r.forgetJob(ctx, kr, r.reencryptJob(kr, parent), recordReencryptJob)
	case actionForgetVerifyJob:
		return r.forgetJob(ctx, kr, r.verifyJob(kr, parent), recordVerifyJob)
	case actionRecordReencrypted:
		return r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
			r.setProgress(ctx, kr, s)
			setReencrypted(kr, s)
		}), func() {
			if rotations.Compromise(kr) {
				r.tell(kr, parent, v1alpha1.ConditionSessionsEnded, sessionsEnded(kr))
			}
		})
	case actionRecordVerified:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
			setCondition(kr, s, v1alpha1.ConditionVerified, metav1.ConditionTrue, v1alpha1.ReasonComplete,
				fmt.Sprintf("nothing is below version %d, and every key is usable", *s.ToVersion))
		})
	case actionRecordRetirement:
		return r.recordRetirement(ctx, kr, parent)
	case actionRecordRetired:
		return r.recordRetired(ctx, kr, parent)
	case actionComplete:
		return r.complete(ctx, kr, parent)
	case actionFail:
		return r.fail(ctx, kr, parent, d)
	default:
		return fmt.Errorf("KeyRotation %s: no such step as %s", kr.Name, d.action)
	}
}

// start says that the rotation begins: with the list read past the cache, under a lock of the process, so that of
// two rotations only one finds that nobody is ahead. Another operator has a lock of its own: recordTurn makes certain.
func (r *Reconciler) start(ctx context.Context, kr *v1alpha1.KeyRotation) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	same, err := r.same(ctx, kr)
	if err != nil {
		return err
	}
	if first := ahead(kr, same); first != nil {
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
			setWaiting(kr, s, v1alpha1.ReasonQueued, "waits for KeyRotation "+first.Name+" to end")
		})
	}
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		// The attempt before had its turn; this one is not certain of its own yet.
		s.StartTime, s.Shards = new(metav1.NewTime(r.Now())), 0
		s.Attempt = max(s.Attempt, 1)
		if s.ToVersion != nil {
			setWaiting(kr, s, v1alpha1.ReasonReencrypting, "starts the re-encryption Job")
			return
		}
		setWaiting(kr, s, v1alpha1.ReasonRotatingKey, "adds a version to the master key")
	})
}

func strategyOf(kr *v1alpha1.KeyRotation, rotation operand.Rotation) v1alpha1.RotationStrategy {
	switch {
	case rotations.Compromise(kr):
		return v1alpha1.StrategyReencrypt
	case kr.Spec.Strategy != "":
		return kr.Spec.Strategy
	default:
		return rotation.Strategy
	}
}

// recordTurn makes certain of the turn, or gives it back, with a list that was read past the cache after the start was
// recorded. Nothing has happened in Vault, or of this attempt anywhere. With the turn it writes down what holds for the
// attempt, and the first time the version that the rotation begins with.
func (r *Reconciler) recordTurn(ctx context.Context, o observed) error {
	kr := o.rotation
	same, err := r.same(ctx, kr)
	if err != nil {
		return err
	}
	yieldTo, waitFor := turnOf(kr, same)
	switch {
	case yieldTo != nil:
		return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
			s.StartTime = nil
			setWaiting(kr, s, v1alpha1.ReasonQueued, "waits for KeyRotation "+yieldTo.Name+" to end")
		})
	case waitFor != nil:
		return stalecache.New("KeyRotation", waitFor.Name, "it has neither ended nor yielded its turn")
	case overtaken(kr, o.parent, same) != "":
		return stalecache.New("KeyRotation", kr.Name, "another rotation has added a newer version")
	case kr.Status.FromVersion == nil && rotations.NewestVersion(o.parent, same) > o.key.Latest:
		return stalecache.New("KeyRotation", kr.Name, "the key has a newer version than when it was read, or Vault was restored")
	}
	rotation := operand.ResolveRotation(o.parent)
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		s.Shards = rotation.Parallelism
		if s.Strategy == "" {
			s.Strategy = strategyOf(kr, rotation)
		}
		if s.FromVersion == nil {
			s.FromVersion = new(o.key.Latest)
		}
	})
}

// rotateKey adds a version, if the recorded version is the one that the API server has and is still
// the key's latest: a stale cache or a deposed leader thus adds none.
func (r *Reconciler) rotateKey(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	recorded := &v1alpha1.KeyRotation{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(kr), recorded); err != nil {
		return err
	}
	if recorded.UID != kr.UID || rotations.Ended(recorded) || recorded.Status.ToVersion != nil || recorded.Status.FromVersion == nil || *recorded.Status.FromVersion != *kr.Status.FromVersion {
		return stalecache.New("KeyRotation", kr.Name, "it has changed since it was read")
	}
	vault, key, err := r.vaultOf(parent)
	if err != nil {
		return err
	}
	state, err := vault.ReadKey(ctx, key)
	if err != nil || state.Latest != *recorded.Status.FromVersion {
		return err
	}
	return vault.Rotate(ctx, r.keysOf(parent))
}

// createJob creates a Job and records its identity.
func (r *Reconciler) createJob(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, expected trustedjob.Expected, record func(*v1alpha1.KeyRotationStatus, trustedjob.Identity)) error {
	created, err := expected.Create(ctx, r.Client, r.Live)
	if foreign, ok := errors.AsType[*trustedjob.ForeignError](err); ok {
		return r.fail(ctx, kr, parent, foreignJob(foreign.Error()))
	}
	if err != nil {
		return err
	}
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { record(s, created) })
}

// forgetJob clears the record of a Job that somebody has deleted, before another one is created. If
// the operator died between creating and recording that one, it would not be the recorded one, and
// not be believed.
func (r *Reconciler) forgetJob(ctx context.Context, kr *v1alpha1.KeyRotation, expected trustedjob.Expected, record func(*v1alpha1.KeyRotationStatus, trustedjob.Identity)) error {
	gone, err := expected.Gone(ctx, r.Live)
	if err != nil {
		return err
	}
	if !gone {
		return stalecache.New("Job", expected.Key.Name, "it exists")
	}
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { record(s, trustedjob.Identity{}) })
}

func recordReencryptJob(s *v1alpha1.KeyRotationStatus, made trustedjob.Identity) {
	s.ReencryptJobUID, s.ReencryptJobDigest = string(made.UID), made.Digest
}

func recordVerifyJob(s *v1alpha1.KeyRotationStatus, made trustedjob.Identity) {
	s.VerifyJobUID, s.VerifyJobDigest = string(made.UID), made.Digest
}

// recordRetirement tells the SecureNotes when the old version is to stop decrypting.
func (r *Reconciler) recordRetirement(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	current := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(parent), current); err != nil {
		return err
	}
	if retirement.Recorded(current.Status.MasterKey, *kr.Status.ToVersion) {
		return stalecache.New("SecureNotes", parent.Name, "its retirement is recorded already")
	}
	before := current.DeepCopy()
	if current.Status.MasterKey == nil {
		current.Status.MasterKey = &v1alpha1.MasterKeyStatus{}
	}
	list := current.Status.MasterKey.PendingRetirements
	current.Status.MasterKey.PendingRetirements = retirement.Add(list, v1alpha1.PendingRetirement{
		ToVersion: *kr.Status.ToVersion, Due: metav1.NewTime(r.due(kr, parent, list)), Urgent: rotations.Compromise(kr), Attempt: 1,
	})
	if err := r.Client.Status().Patch(ctx, current, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return err
	}
	if awaitsRestart(kr) || awaitsRevocation(kr, parent) {
		return nil
	}
	// The cache may be behind, and the SecureNotes' own reconciler may retire the version at once:
	// the entry is recorded, so the rotation ends here and now.
	return r.complete(ctx, kr, current)
}

// due is when the old version is to stop decrypting. A Compromise does not wait. A Routine one is due
// no earlier than a pending retirement, even if retainOldVersionFor has become shorter.
func (r *Reconciler) due(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, list []v1alpha1.PendingRetirement) time.Time {
	if rotations.Compromise(kr) {
		return r.Now()
	}
	return retirement.NotBefore(list, r.Now().Add(operand.ResolveRotation(parent).RetainOldVersionFor))
}

func (r *Reconciler) fail(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, d decision) error {
	return r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setFailed(kr, s, d, r.Now()) }),
		func() { r.event(kr, parent, corev1.EventTypeWarning, d.reason, d.message) })
}

func (r *Reconciler) complete(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) error {
	message := fmt.Sprintf("rotated %s to version %d", parent.Name, *kr.Status.ToVersion)
	return r.thenTell(r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) { setComplete(kr, s, r.Now()) }),
		func() { r.event(kr, parent, corev1.EventTypeNormal, v1alpha1.ReasonComplete, message) })
}

// thenTell tells of what was written, if it was: a step whose status was not written is taken
// again, and would be told twice.
func (r *Reconciler) thenTell(err error, tell func()) error {
	if err == nil {
		tell()
	}
	return err
}

func (r *Reconciler) event(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, kind, reason, message string) {
	if parent == nil {
		r.Recorder.Eventf(kr, nil, kind, reason, "Rotate", "%s", message)
		return
	}
	r.Recorder.Eventf(kr, parent, kind, reason, "Rotate", "%s", message)
}

// patchStatus changes the status, if change changes anything, guarded by the resourceVersion.
func (r *Reconciler) patchStatus(ctx context.Context, kr *v1alpha1.KeyRotation, change func(*v1alpha1.KeyRotationStatus)) error {
	before := kr.DeepCopy()
	change(&kr.Status)
	kr.Status.ObservedGeneration, kr.Status.Reason = kr.Generation, reasonOf(&kr.Status)
	if equalStatus(&before.Status, &kr.Status) {
		return nil
	}
	err := r.Client.Status().Patch(ctx, kr, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if err != nil {
		*kr = *before
	}
	return err
}

// patchObject changes the metadata, guarded by the resourceVersion. It reads the object past the
// cache, which does not have the finalizers and owner references of others; a merge patch made
// without them would remove them.
func (r *Reconciler) patchObject(ctx context.Context, kr *v1alpha1.KeyRotation, change func() error) error {
	whole := &v1alpha1.KeyRotation{}
	err := r.Live.Get(ctx, client.ObjectKeyFromObject(kr), whole)
	if apierrors.IsNotFound(err) {
		return change() // gone, and with it what was to be changed
	}
	if err != nil {
		return err
	}
	if whole.UID != kr.UID || whole.ResourceVersion != kr.ResourceVersion {
		return stalecache.New("KeyRotation", kr.Name, "it has changed since it was read")
	}
	*kr = *whole
	before := kr.DeepCopy()
	if err := change(); err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(before.ObjectMeta, kr.ObjectMeta) {
		return nil
	}
	// An object that its finalizer alone kept is gone once the patch is through.
	return client.IgnoreNotFound(r.Client.Patch(ctx, kr, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}
