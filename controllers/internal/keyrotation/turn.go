package keyrotation

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/restores"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/stalecache"
	"github.com/securenotes/securenotes/controllers/internal/steps"
)

// awaitTurn waits until the rotation that comes first has ended.
var awaitTurn = step{
	Name: "AwaitTurn",
	Due: func(o observed) (decision, bool) {
		switch {
		case rotations.Started(o.rotation):
			return steps.NotDue()
		case o.restoring != nil:
			return steps.Waiting(v1alpha1.ReasonQueued, "waits for NotesRestore %s to end", o.restoring.Name)
		case o.ahead == nil:
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonQueued, "waits for KeyRotation %s to end", o.ahead.Name)
	},
}

// failSuperseded fails a rotation that a Compromise has superseded.
var failSuperseded = step{
	Name: "FailSuperseded",
	Due: func(o observed) (decision, bool) {
		if !rotations.Started(o.rotation) || o.supersededBy == nil {
			return steps.NotDue()
		}
		return steps.FailingForGood(config.ReasonSuperseded, "KeyRotation %s of reason Compromise supersedes this one and re-encrypts everything under a newer version", o.supersededBy.Name)
	},
}

// failOvertaken fails a retried rotation if another one has added a newer version since. Its
// session keys, too, would be older than those in use.
var failOvertaken = step{
	Name: "FailOvertaken",
	Due: func(o observed) (decision, bool) {
		if !rotations.Started(o.rotation) || o.overtaken == nil {
			return steps.NotDue()
		}
		return steps.FailingForGood(config.ReasonSuperseded, "%s", o.overtaken)
	},
}

// guard adds the finalizer.
var guard = step{
	Name: "Guard",
	Due:  steps.When(func(o observed) bool { return !rotations.HasFinalizer(o.rotation) }),
	Do: func(ctx context.Context, r *Reconciler, o observed) error {
		return r.patchObject(ctx, o.rotation, func() error {
			controllerutil.AddFinalizer(o.rotation, v1alpha1.Finalizer)
			return nil
		})
	},
}

// start records that the rotation starts.
var start = step{
	Name: "Start",
	Due:  steps.When(func(o observed) bool { return !rotations.Started(o.rotation) }),
	Do:   func(ctx context.Context, r *Reconciler, o observed) error { return r.start(ctx, o.rotation) },
}

// awaitSuperseded waits until the rotation that this Compromise supersedes has ended.
var awaitSuperseded = step{
	Name: "AwaitSuperseded",
	Due: func(o observed) (decision, bool) {
		if !firstTurn(o) || o.superseded == nil {
			return steps.NotDue()
		}
		return steps.Waiting(v1alpha1.ReasonRotatingKey, "waits for KeyRotation %s, which it supersedes, to end", o.superseded.Name)
	},
}

// failKeyLost fails a rotation that would start with fewer versions of the key than there were. It
// and recordFrom depend on the key's versions; see needsKey.
var failKeyLost = step{
	Name: "FailKeyLost",
	Due: func(o observed) (decision, bool) {
		if !firstTurn(o) || o.key == nil || o.key.Latest >= o.newest {
			return steps.NotDue()
		}
		return keyRestored(o.key.Latest, o.newest)
	},
}

// recordFrom records the latest version of the key as fromVersion, and with it that the turn is
// certain.
var recordFrom = step{Name: "RecordFrom", Due: steps.When(firstTurn), Do: recordCertainTurn}

// recordTurn records that the turn of a retry, which has a fromVersion, is certain.
var recordTurn = step{Name: "RecordTurn", Due: steps.When(func(o observed) bool { return !rotations.TurnCertain(o.rotation) }), Do: recordCertainTurn}

// firstTurn reports whether the turn has not been certain in any attempt.
func firstTurn(o observed) bool { return o.rotation.Status.FromVersion == nil }

// start records the start, unless another rotation comes first. It lists the rotations past the
// cache, under a lock of the process, so that this process starts only one of two rotations.
// Another operator does not hold this lock, so recordCertainTurn checks again. If the cache does
// not show the rotation that comes first, the pass ends: otherwise start would be taken again and
// again.
func (r *Reconciler) start(ctx context.Context, kr *v1alpha1.KeyRotation) error {
	r.starting.Lock()
	defer r.starting.Unlock()
	all, err := r.listLive(ctx, kr)
	if err != nil {
		return err
	}
	if first := ahead(kr, all); first != nil {
		return r.queueBehind(ctx, kr, "KeyRotation", first.Name)
	}
	if err := r.yieldToRestore(ctx, kr); err != nil {
		return err
	}
	return r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		// The turn of the previous attempt is over, and that of this one is not certain yet.
		s.StartTime, s.Shards = new(metav1.NewTime(r.Now())), 0
		s.Attempt = max(s.Attempt, 1)
		if s.ToVersion != nil {
			setWaiting(kr, s, v1alpha1.ReasonReencrypting, "starts the re-encryption Job")
			return
		}
		setWaiting(kr, s, v1alpha1.ReasonRotatingKey, "adds a version to the master key")
	})
}

// recordCertainTurn records that the turn is certain, or yields it. It decides from a list that was
// read past the cache after the start was recorded. Until then only the owner reference, the
// finalizer and the status of the rotation have changed. With the turn it records the settings of
// the attempt and, the first time, fromVersion.
func recordCertainTurn(ctx context.Context, r *Reconciler, o observed) error {
	kr := o.rotation
	all, err := r.listLive(ctx, kr)
	if err != nil {
		return err
	}
	yieldTo, waitFor := resolveTurn(kr, all)
	switch {
	case yieldTo != nil:
		return r.queueBehind(ctx, kr, "KeyRotation", yieldTo.Name)
	case waitFor != nil:
		return stalecache.New("KeyRotation", waitFor.Name, "it has neither ended nor yielded its turn")
	case overtaken(kr, o.parent, all) != nil:
		return stalecache.New("KeyRotation", kr.Name, "another rotation has added a newer version")
	case kr.Status.FromVersion == nil && rotations.NewestVersion(o.parent, all) > o.key.Latest:
		return stalecache.New("KeyRotation", kr.Name, "the key has a newer version than when it was read, or Vault was restored")
	}
	if err := r.yieldToRestore(ctx, kr); err != nil {
		return err
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

// yieldToRestore queues a rotation behind a started NotesRestore, if there is one past the cache. A
// restore that starts later sees the recorded start of this rotation.
func (r *Reconciler) yieldToRestore(ctx context.Context, kr *v1alpha1.KeyRotation) error {
	active, err := restores.Active(ctx, r.Live, kr.Namespace, kr.Spec.SecureNotesRef.Name)
	if err != nil || active == nil {
		return err
	}
	return r.queueBehind(ctx, kr, "NotesRestore", active.Name)
}

// queueBehind records that a rotation waits for another object, which a list past the cache shows.
// If it succeeds it returns a [stalecache.Error], because the cache does not show that yet.
func (r *Reconciler) queueBehind(ctx context.Context, kr *v1alpha1.KeyRotation, kind, first string) error {
	err := r.patchStatus(ctx, kr, func(s *v1alpha1.KeyRotationStatus) {
		s.StartTime = nil
		setWaiting(kr, s, v1alpha1.ReasonQueued, "waits for "+kind+" "+first+" to end")
	})
	if err != nil {
		return err
	}
	return stalecache.New(kind, first, "it goes first")
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

// listLive returns the rotations of kr's SecureNotes, past the cache.
func (r *Reconciler) listLive(ctx context.Context, kr *v1alpha1.KeyRotation) ([]v1alpha1.KeyRotation, error) {
	list := &v1alpha1.KeyRotationList{}
	if err := r.Live.List(ctx, list, client.InNamespace(kr.Namespace)); err != nil {
		return nil, fmt.Errorf("list the KeyRotations of SecureNotes %s: %w", kr.Spec.SecureNotesRef.Name, err)
	}
	var all []v1alpha1.KeyRotation
	for _, other := range list.Items {
		if other.Spec.SecureNotesRef.Name == kr.Spec.SecureNotesRef.Name {
			all = append(all, other)
		}
	}
	return all, nil
}
