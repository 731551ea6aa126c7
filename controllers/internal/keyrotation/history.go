package keyrotation

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// Ended says whether a rotation is Complete or Failed.
func Ended(kr *v1alpha1.KeyRotation) bool { return Complete(kr) || Failed(kr) }

// Complete says whether a rotation ended well.
func Complete(kr *v1alpha1.KeyRotation) bool {
	return meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionComplete)
}

// Failed says whether a rotation ended without success.
func Failed(kr *v1alpha1.KeyRotation) bool {
	return meta.IsStatusConditionTrue(kr.Status.Conditions, v1alpha1.ConditionFailed)
}

// Scheduled says whether the schedule made the rotation.
func Scheduled(kr *v1alpha1.KeyRotation) bool { return kr.Labels[v1alpha1.LabelScheduled] == "true" }

// Prunable gives the rotations beyond the newest limit of those that the schedule made and that have
// ended. Any other rotation is somebody's own.
func Prunable(all []v1alpha1.KeyRotation, limit int) []v1alpha1.KeyRotation {
	var candidates []v1alpha1.KeyRotation
	for _, kr := range all {
		if Scheduled(&kr) && Ended(&kr) && kr.DeletionTimestamp == nil {
			candidates = append(candidates, kr)
		}
	}
	slices.SortFunc(candidates, func(a, b v1alpha1.KeyRotation) int { return byAge(&b, &a) })
	if len(candidates) <= limit {
		return nil
	}
	return candidates[limit:]
}

// byAge orders the oldest first; the name decides between those of one second.
func byAge(a, b *v1alpha1.KeyRotation) int {
	if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
		return c
	}
	return cmp.Compare(a.Name, b.Name)
}

// ahead gives the rotation that must end before kr may begin; nil when it is kr's turn. all are of
// one SecureNotes.
func ahead(kr *v1alpha1.KeyRotation, all []v1alpha1.KeyRotation) *v1alpha1.KeyRotation {
	var first *v1alpha1.KeyRotation
	for i := range all {
		other := &all[i]
		if other.UID == kr.UID || Ended(other) {
			continue
		}
		if started(other) {
			return other
		}
		if other.DeletionTimestamp == nil && before(other, kr) && (first == nil || before(other, first)) {
			first = other
		}
	}
	return first
}

func before(a, b *v1alpha1.KeyRotation) bool {
	if urgent := a.Spec.Reason == v1alpha1.RotationCompromise; urgent != (b.Spec.Reason == v1alpha1.RotationCompromise) {
		return urgent
	}
	return byAge(a, b) < 0
}

func started(kr *v1alpha1.KeyRotation) bool { return kr.Status.StartTime != nil }
