package keyrotation

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/retirement"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// ahead gives the rotation that must end before kr may begin; nil when it is kr's turn. all are of
// one SecureNotes. A Compromise does not wait for one that has begun, but for a newer Compromise: it supersedes it.
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
		if other.DeletionTimestamp == nil && before(other, kr) && (first == nil || before(other, first)) {
			first = other
		}
	}
	return first
}

// maxQueued is how many rotations of one SecureNotes, and of one reason, wait for their turn or are
// at work.
const maxQueued = 20

// queuedBefore returns how many older rotations of kr's reason have not ended. A Compromise is thus
// never refused because of Routine ones, and what has a place keeps it unless an older one is tried
// again.
func queuedBefore(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) int {
	count := 0
	for i := range all {
		if other := &all[i]; other.UID != kr.UID && !rotations.Ended(other) && !restoredEnded(other) && rotations.Compromise(other) == rotations.Compromise(kr) && rotations.ByAge(other, kr) < 0 {
			count++
		}
	}
	return count
}

// startedOther gives the first of the rotations that have begun and not ended, kr aside, that is
// wanted.
func startedOther(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation, wanted func(other *v1alpha1.KeyRotation) bool) *v1alpha1.KeyRotation {
	for i := range all {
		if other := &all[i]; other.UID != kr.UID && rotations.Started(other) && !rotations.Ended(other) && wanted(other) {
			return other
		}
	}
	return nil
}

// turnOf decides between rotations that have begun at once, as two operators may have them do: start is not atomic. kr has
// said that it begins, and all, read after that, are as the API server has them. yieldTo is the one to which kr gives its
// turn back: one that is certain of its own, or that goes first. waitFor is the one that must give back its turn, or end,
// before kr is certain; both nil: kr is.
//
// Of two that have begun, whichever has read all later sees that the other has begun, and unless it is the first of them it
// gives its turn back; and the first does not go on while it sees the other without knowing that it gives way. So never are
// two certain, whatever the order, and never do two wait for each other, because before is an order of all.
func turnOf(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) (yieldTo, waitFor *v1alpha1.KeyRotation) {
	if other := startedOther(kr, all, func(other *v1alpha1.KeyRotation) bool { return supersedes(kr, other) || supersedes(other, kr) }); other != nil {
		// One of the two ends, as soon as its cache has the other.
		return nil, other
	}
	if other := startedOther(kr, all, func(other *v1alpha1.KeyRotation) bool { return hasTurn(other) || before(other, kr) }); other != nil {
		return other, nil
	}
	return nil, startedOther(kr, all, func(*v1alpha1.KeyRotation) bool { return true })
}

// supersedes says whether a takes over from b, which has begun. A newer Compromise does so from an older one, too:
// it does all that the older one does, and what that waits for must not keep it from beginning. A Compromise that is
// tried again has a version already, which may be older than b's: it waits.
func supersedes(a, b *v1alpha1.KeyRotation) bool {
	return rotations.Compromise(a) && a.Status.FromVersion == nil && (!rotations.Compromise(b) || rotations.ByAge(b, a) < 0)
}

// overtaken says what has made a newer version than kr, which is tried again; empty when nothing has. A kr that came to no
// version of its own is measured by the one that it began with: what it would take for its own is the other's, made and
// done with, and nothing would be renewed. A version that was made in Vault by hand is nobody's, and taken. A rotation whose
// object is gone is known by the retirement that it left behind.
func overtaken(kr *v1alpha1.KeyRotation, parent *v1alpha1.SecureNotes, all []v1alpha1.KeyRotation) string {
	own := kr.Status.ToVersion
	if own == nil {
		own = kr.Status.FromVersion
	}
	if own == nil {
		return ""
	}
	for i := range all {
		if to := all[i].Status.ToVersion; to != nil && *to > *own && metav1.IsControlledBy(&all[i], parent) {
			instead := "create another to rotate again"
			if rotations.Failed(&all[i]) {
				instead = "retry that one, or create another"
			}
			return fmt.Sprintf("KeyRotation %s has made version %d since: %s", all[i].Name, *to, instead)
		}
	}
	if retirement.Recorded(parent.Status.MasterKey, *own+1) {
		return fmt.Sprintf("a KeyRotation that is gone has made a version above %d since: create another to rotate again", *own)
	}
	return ""
}

func before(a, b *v1alpha1.KeyRotation) bool {
	if rotations.Compromise(a) != rotations.Compromise(b) {
		return rotations.Compromise(a)
	}
	return rotations.ByAge(a, b) < 0
}

// hasTurn says whether it is certain that no other rotation is at work; see recordTurn.
func hasTurn(kr *v1alpha1.KeyRotation) bool {
	return rotations.Started(kr) && kr.Status.Shards > 0 && kr.Status.FromVersion != nil
}
