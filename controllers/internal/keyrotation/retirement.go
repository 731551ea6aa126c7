package keyrotation

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// recordRetirement records in the SecureNotes when the old version is to stop decrypting. Package
// securenotes retires it. Unless the end waits for something else, the step also completes the
// rotation: the next pass may not find the record, because the version can be retired and the
// record removed before the cache shows it.
var recordRetirement = step{
	Name: "RecordRetirement",
	Due:  steps.When(func(o observed) bool { return !o.retirementRecorded }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		kr := o.rotation
		current, err := r.recordRetirement(ctx, kr, o.parent)
		if err != nil || replacesSessionKeys(kr) || awaitsRevocation(kr, o.parent) {
			return err
		}
		return r.complete(ctx, kr, current)
	},
}

// recordRetired records in a complete Compromise that the old version has been retired. That comes
// after the end, because the retirement verifies everything once more.
var recordRetired = step{
	Name: "RecordRetired",
	Due: steps.When(func(o observed) bool {
		kr := o.rotation
		return !gone(o.parent) && !rotations.HasFinalizer(kr) && rotations.AwaitsRetirement(kr) && retirement.Done(o.parent.Status.MasterKey, *kr.Status.ToVersion)
	}),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		kr := o.rotation
		message := fmt.Sprintf("key versions below %d no longer decrypt", *kr.Status.ToVersion)
		err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
			setCondition(kr, s, v1alpha1.ConditionOldVersionRetired, metav1.ConditionTrue, v1alpha1.ReasonComplete, message)
		})
		if err != nil {
			return client.IgnoreNotFound(err) // it has no finalizer any more
		}
		// The SecureNotes has an event of its own.
		r.event(kr, o.parent, corev1.EventTypeNormal, v1alpha1.ConditionOldVersionRetired, message)
		return nil
	},
}

// recordRetirement adds the retirement to the SecureNotes, and returns that as written.
func (r *Reconciler) recordRetirement(ctx context.Context, kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes) (*v1alpha1.SecureNotes, error) {
	current := &v1alpha1.SecureNotes{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(parent), current); err != nil {
		return nil, err
	}
	if retirement.Recorded(current.Status.MasterKey, *kr.Status.ToVersion) {
		return nil, stalecache.New("SecureNotes", parent.Name, "its retirement is recorded already")
	}
	before := current.DeepCopy()
	if current.Status.MasterKey == nil {
		current.Status.MasterKey = &v1alpha1.MasterKeyStatus{}
	}
	list := current.Status.MasterKey.PendingRetirements
	current.Status.MasterKey.PendingRetirements = retirement.Add(list, v1alpha1.PendingRetirement{
		ToVersion: *kr.Status.ToVersion, Due: metav1.NewTime(r.due(kr, parent, list)), Urgent: rotations.Compromise(kr), Attempt: 1,
	})
	return current, r.Client.Status().Patch(ctx, current, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// due returns when the old version is to stop decrypting. A Compromise does not wait, and neither
// does a rotation after a restore: an older version may have been allowed again for the restore,
// and an escrow file has had the owner keys outside Vault. Any other one is due no earlier than a
// pending retirement, even if retainOldVersionFor has become shorter.
func (r *Reconciler) due(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, list []v1alpha1.PendingRetirement) time.Time {
	if rotations.Compromise(kr) || kr.Status.CreatedBy == v1alpha1.CreatedByRestore {
		return r.Now()
	}
	return retirement.NotBefore(list, r.Now().Add(operand.ResolveRotation(parent).RetainOldVersionFor))
}
