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

// createScheduled creates the rotation that is due. Its name is derived from the due time, so a
// repeated pass, of this operator or another, creates no second one.
func (r *Reconciler) createScheduled(ctx context.Context, s *scope, rotation operand.Rotation) error {
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
	s.requeueAfter(plan.Next.Sub(s.now), "the next scheduled rotation")
	if plan.Missed.IsZero() || !s.hasKeys || scheduledRunning(s.rotationList) {
		return nil
	}
	kr := newRotation(s.sn, fmt.Sprintf("%s-%d", s.sn.Name, plan.Missed.Unix()/60))
	kr.Labels[v1alpha1.LabelScheduled] = "true"
	if exists, err := r.createRotation(ctx, s, kr, v1alpha1.CreatedBySchedule, plan.Missed); err != nil || !exists {
		return err
	}
	s.sn.Status.LastScheduleTime = new(metav1.NewTime(plan.Missed))
	return nil
}

// scheduledRunning reports whether a scheduled rotation has not ended. Rotations of a schedule that
// is faster than they are must not pile up.
func scheduledRunning(list []v1alpha1.KeyRotation) bool {
	for _, kr := range list {
		if rotations.Scheduled(&kr) && !rotations.Ended(&kr) {
			return true
		}
	}
	return false
}

// scheduleSince returns the time after which scheduled times without a rotation count as missed:
// the last handled time, or the time of the last change of the schedule. The status records that
// change.
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

// firstSeen returns since when a schedule counts that the status does not record yet. An operator
// of an earlier release has handled every time until the last one that it recorded. If it recorded
// only the next one, no time had come before.
func firstSeen(s *scope) time.Time {
	key := s.sn.Status.MasterKey
	switch last := s.sn.Status.LastScheduleTime; {
	case last != nil:
		return last.Time
	case s.sn.Generation <= 1, key != nil && key.NextRotationTime != nil:
		return s.sn.CreationTimestamp.Time
	default: // any change of the spec may have added the schedule
		return s.now
	}
}
