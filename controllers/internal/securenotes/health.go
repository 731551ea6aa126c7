package securenotes

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
)

// rotationState returns the state of the rotations, and a copy of the time at which one completed
// last. The rotations are the cache's own, and the status of the scope is changed.
func rotationState(sn *v1alpha1.SecureNotes, list []v1alpha1.KeyRotation) (finding, *metav1.Time) {
	var running, blocked, newest *v1alpha1.KeyRotation
	var last *metav1.Time
	if key := sn.Status.MasterKey; key != nil {
		last = key.LastRotationTime
	}
	for i := range list {
		kr := &list[i]
		switch {
		case !rotations.Ended(kr):
			running = kr
			if rotations.Blocked(kr) != nil {
				blocked = kr
			}
			continue
		case kr.Status.CompletionTime == nil:
			continue
		case rotations.Complete(kr) && (last == nil || last.Before(kr.Status.CompletionTime)):
			last = kr.Status.CompletionTime
		}
		if newest == nil || endedBefore(newest, kr) {
			newest = kr
		}
	}
	switch {
	case blocked != nil:
		c := rotations.Blocked(blocked)
		return bad(c.Reason, "KeyRotation "+blocked.Name+" is blocked: "+c.Message), last.DeepCopy()
	case running != nil:
		return good(v1alpha1.ReasonRotating, "KeyRotation "+running.Name+" is running"), last.DeepCopy()
	case newest != nil && rotations.Failed(newest):
		return bad(v1alpha1.ReasonRotationFailed, failure(newest)), last.DeepCopy()
	default:
		return good(v1alpha1.ReasonIdle, "no rotation is running"), last.DeepCopy()
	}
}

// failure quotes why a rotation has failed. A deleted rotation will soon not exist, nor its
// conditions.
func failure(kr *v1alpha1.KeyRotation) string {
	message := "KeyRotation " + kr.Name + " has failed"
	if c := meta.FindStatusCondition(kr.Status.Conditions, v1alpha1.ConditionFailed); c != nil && c.Message != "" {
		message += ": " + c.Message
	}
	if kr.DeletionTimestamp == nil || kr.Status.FromVersion == nil || kr.Status.ToVersion == nil {
		return message
	}
	if meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionReencrypted) {
		return fmt.Sprintf("%s. It is not verified that no note uses version %d: create another KeyRotation", message, *kr.Status.FromVersion)
	}
	return fmt.Sprintf("%s. Some notes may still use version %d: create another KeyRotation", message, *kr.Status.FromVersion)
}

// endedBefore reports whether a ended before b. The version decides if both ended in the same
// second, as a superseded rotation and its successor can.
func endedBefore(a, b *v1alpha1.KeyRotation) bool {
	if at, bt := a.Status.CompletionTime, b.Status.CompletionTime; !at.Equal(bt) {
		return at.Before(bt)
	}
	return ptr.Deref(a.Status.ToVersion, 0) < ptr.Deref(b.Status.ToVersion, 0)
}
