package keyrotation

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// The steps of this file depend on the key's versions. needsKey decides when these are read, and
// must report true wherever one of the steps must not be skipped.

// failKeyRestored fails a rotation whose versions Vault no longer has.
var failKeyRestored = step{
	Name: "FailKeyRestored",
	Due: func(o observed) (decision, bool) {
		if o.key == nil {
			return steps.NotDue()
		}
		from, to := o.rotation.Status.FromVersion, o.rotation.Status.ToVersion
		switch {
		case o.key.Latest < *from:
			return keyRestored(o.key.Latest, *from)
		case to != nil && o.key.Latest < *to:
			return keyRestored(o.key.Latest, *to)
		default:
			return steps.NotDue()
		}
	},
}

// rotateKey adds a version to the master key in Vault.
var rotateKey = step{
	Name: "RotateKey",
	Due: steps.When(func(o observed) bool {
		return o.key != nil && o.rotation.Status.ToVersion == nil && o.key.Latest == *o.rotation.Status.FromVersion
	}),
	Do: addVersion,
}

// recordTo records the latest version of the key as toVersion. An extra version costs nothing but a
// number: one whose answer was lost, or one that was added by hand.
var recordTo = step{
	Name: "RecordTo",
	Due:  steps.When(func(o observed) bool { return o.key != nil && o.rotation.Status.ToVersion == nil }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchStatus(ctx, o.rotation, func(s *v1alpha1.KeyRotationStatus) { s.ToVersion = new(o.key.Latest) })
	},
}

// raiseMinEncryption raises min_encryption_version to toVersion, so that nothing new is wrapped
// under the old version.
var raiseMinEncryption = step{
	Name: "RaiseMinEncryption",
	Due:  steps.When(func(o observed) bool { return o.key != nil && o.key.MinEncryption < *o.rotation.Status.ToVersion }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		vault, err := r.vaultOf(o.parent)
		if err != nil {
			return err
		}
		return vault.RaiseMinEncryption(ctx, r.keysOf(o.parent), *o.rotation.Status.ToVersion)
	},
}

// keyRestored fails a rotation that finds fewer versions than there were. A version added now would
// have a number that the database may use already, and would decrypt nothing under that number.
func keyRestored(latest, known int64) (decision, bool) {
	return steps.Failing(v1alpha1.ReasonKeyRestored, "the key's latest version is %d, but there was a version %d: %s", latest, known, rotations.RestoreVaultAdvice)
}

// addVersion adds a version only if the API server has the recorded fromVersion and it is still the
// latest version of the key. So neither a stale cache nor a deposed leader adds one.
func addVersion(ctx context.Context, r *Reconciler, o observed) error {
	kr, live := o.rotation, &v1alpha1.KeyRotation{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(kr), live); err != nil {
		return err
	}
	from := live.Status.FromVersion
	if live.UID != kr.UID || rotations.Ended(live) || live.Status.ToVersion != nil || from == nil || *from != *kr.Status.FromVersion {
		return stalecache.New("KeyRotation", kr.Name, "it has changed since it was read")
	}
	key, err := r.readKey(ctx, o.parent)
	if err != nil {
		return err
	}
	if key.Latest != *from {
		return steps.ErrNotTaken
	}
	vault, err := r.vaultOf(o.parent)
	if err != nil {
		return err
	}
	return vault.Rotate(ctx, r.keysOf(o.parent))
}
