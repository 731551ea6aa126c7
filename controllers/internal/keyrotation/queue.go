package keyrotation

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// maxQueued is how many rotations of one SecureNotes, and of one reason, wait for their turn or
// run.
const maxQueued = 20

// precedes reports whether a comes before b in the queue: a Compromise first, then the oldest.
func precedes(a, b *v1alpha1.KeyRotation) bool {
	if rotations.Compromise(a) != rotations.Compromise(b) {
		return rotations.Compromise(a)
	}
	return rotations.ByAge(a, b) < 0
}

// ahead returns the rotation that the queued rotation kr waits for, or nil if kr may start. all are
// of one SecureNotes. kr waits for every started rotation except those that it supersedes, and for
// the queued ones that precede it.
func ahead(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) *v1alpha1.KeyRotation {
	var first *v1alpha1.KeyRotation
	for i := range all {
		other := &all[i]
		if other.UID == kr.UID || rotations.Ended(other) {
			continue
		}
		if rotations.Started(other) {
			if supersedes(kr, other) {
				continue
			}
			return other
		}
		if other.DeletionTimestamp == nil && precedes(other, kr) && (first == nil || precedes(other, first)) {
			first = other
		}
	}
	return first
}

// queuedBefore returns how many older rotations of kr's reason have not ended. Routine rotations
// thus never cause a Compromise to be refused, and a rotation keeps its place unless an older one
// is retried.
func queuedBefore(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) int {
	count := 0
	for i := range all {
		other := &all[i]
		if other.UID != kr.UID && !rotations.Ended(other) && !restoredEnded(other) &&
			rotations.Compromise(other) == rotations.Compromise(kr) && rotations.ByAge(other, kr) < 0 {
			count++
		}
	}
	return count
}

// startedOther returns the first rotation other than kr that has started, has not ended, and is
// wanted; nil if there is none.
func startedOther(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation, wanted func(other *v1alpha1.KeyRotation) bool) *v1alpha1.KeyRotation {
	for i := range all {
		if other := &all[i]; other.UID != kr.UID && rotations.Started(other) && !rotations.Ended(other) && wanted(other) {
			return other
		}
	}
	return nil
}

// resolveTurn decides between rotations that have started at once. Two operators can start two,
// because start is not atomic. kr has recorded that it starts, and all was read past the cache
// after that.
//
//   - yieldTo is the rotation to which kr yields its turn: its turn is certain, or it precedes kr.
//   - waitFor is the rotation that must yield or end before kr's turn is certain.
//   - If both are nil, kr's turn is certain.
//
// Of two started rotations, the one that reads the list later sees the other. If one supersedes the
// other, neither yields: the superseded one fails, and the other waits for that. Otherwise the one
// that precedes the other waits, and the other yields. So the turn of two is never certain at once,
// in whatever order they read and write. Two never wait for each other, because precedes is a total
// order.
func resolveTurn(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) (yieldTo, waitFor *v1alpha1.KeyRotation) {
	if other := startedOther(kr, all, func(other *v1alpha1.KeyRotation) bool { return supersedes(kr, other) || supersedes(other, kr) }); other != nil {
		// The superseded one fails as soon as its operator's cache has the other.
		return nil, other
	}
	if other := startedOther(kr, all, func(other *v1alpha1.KeyRotation) bool { return rotations.TurnCertain(other) || precedes(other, kr) }); other != nil {
		return other, nil
	}
	return nil, startedOther(kr, all, func(*v1alpha1.KeyRotation) bool { return true })
}

// supersedes reports whether the Compromise a supersedes the started rotation b. A newer Compromise
// supersedes an older one too: it does all that the older one does, and must not wait for what that
// one waits for. A Compromise with a fromVersion, as after a retry, supersedes none: its version
// may be older than b's, so it waits for b.
func supersedes(a, b *v1alpha1.KeyRotation) bool {
	return rotations.Compromise(a) && a.Status.FromVersion == nil && (!rotations.Compromise(b) || rotations.ByAge(b, a) < 0)
}

// overtaken returns an error that says which rotation has added a newer version than the retried
// rotation kr; nil if none has. If kr has no toVersion its fromVersion counts: otherwise it would
// adopt the other's version and renew nothing. A version that was added in Vault by hand does not
// count. A rotation whose object is gone is known by the retirement that it recorded.
func overtaken(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, all []v1alpha1.KeyRotation) error {
	own := kr.Status.ToVersion
	if own == nil {
		own = kr.Status.FromVersion
	}
	if own == nil {
		return nil
	}
	for i := range all {
		if to := all[i].Status.ToVersion; to != nil && *to > *own && metav1.IsControlledBy(&all[i], parent) {
			instead := "create another to rotate again"
			if rotations.Failed(&all[i]) {
				instead = "retry that one, or create another"
			}
			return fmt.Errorf("KeyRotation %s has added version %d since: %s", all[i].Name, *to, instead)
		}
	}
	if retirement.Recorded(parent.Status.MasterKey, *own+1) {
		return fmt.Errorf("a KeyRotation that no longer exists has added a version above %d since: create another to rotate again", *own)
	}
	return nil
}
