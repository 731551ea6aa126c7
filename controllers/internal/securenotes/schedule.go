package securenotes

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
	"github.com/securenotes/securenotes/controllers/internal/rotations"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
)

// scheduled makes the rotation that is due. Its name is made from the due time, so that a pass that
// is repeated, by this operator or by the next, makes none twice.
func (r *Reconciler) scheduled(ctx context.Context, s *scope, rotation operand.Rotation) error {
	since := scheduleSince(s, rotation)
	if rotation.Schedule == "" {
		return nil
	}
	plan, err := schedule.New(rotation, since, s.now)
	if err != nil {
		s.rotationFinding = bad(v1alpha1.ReasonInvalidSchedule, err.Error())
		return nil
	}
	if rotation.Suspend {
		return nil
	}
	s.nextRotation = new(metav1.NewTime(plan.Next))
	s.wake(plan.Next.Sub(s.now))
	if plan.Missed.IsZero() || !s.keyed || scheduledUnended(s.rotationList) {
		return nil
	}
	kr := newRotation(s.sn, fmt.Sprintf("%s-%d", s.sn.Name, plan.Missed.Unix()/60))
	kr.Labels[v1alpha1.LabelScheduled] = "true"
	if made, err := r.createRotation(ctx, s, kr, v1alpha1.CreatedBySchedule, plan.Missed); err != nil || !made {
		return err
	}
	s.sn.Status.LastScheduleTime = new(metav1.NewTime(plan.Missed))
	return nil
}

// scheduledUnended keeps a schedule that is faster than its rotations from piling them up.
func scheduledUnended(list []v1alpha1.KeyRotation) bool {
	for _, kr := range list {
		if rotations.Scheduled(&kr) && !rotations.Ended(&kr) {
			return true
		}
	}
	return false
}

// scheduleSince is the time after which those of the schedule are missed if nothing was made for them: the last one that
// was acted on, but none from before the schedule was changed. The status keeps since when it is as it is.
func scheduleSince(s *scope, rotation operand.Rotation) time.Time {
	status := &s.sn.Status
	observed := v1alpha1.ObservedSchedule{Schedule: rotation.Schedule, TimeZone: rotation.TimeZone}
	switch before := status.ObservedSchedule; {
	case before == nil:
		observed.Since = metav1.NewTime(firstSeen(s))
	case before.Schedule == observed.Schedule && before.TimeZone == observed.TimeZone:
		observed.Since = before.Since
	default:
		observed.Since = metav1.NewTime(s.now)
	}
	status.ObservedSchedule = &observed
	if last := status.LastScheduleTime; last != nil && last.After(observed.Since.Time) {
		return last.Time
	}
	return observed.Since.Time
}

// firstSeen is since when the schedule counts of an object that no operator has looked at, or an earlier one that did not
// keep it. That one has acted on everything until the last time that it recorded; where it recorded only the next one,
// nothing had come before.
func firstSeen(s *scope) time.Time {
	key := s.sn.Status.MasterKey
	switch last := s.sn.Status.LastScheduleTime; {
	case last != nil:
		return last.Time
	case s.sn.Generation <= 1, key != nil && key.NextRotationTime != nil:
		return s.sn.CreationTimestamp.Time
	default: // it may have come with any change of the spec
		return s.now
	}
}
