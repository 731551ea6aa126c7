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
	recordSchedule(s, rotation) // an empty one too: one that is set later counts from that time
	if rotation.Schedule == "" {
		return nil
	}
	plan, err := schedule.New(rotation, scheduleSince(&s.sn.Status), s.now)
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

// recordSchedule records the schedule in the status, and since when it counts: since its last
// change.
func recordSchedule(s *scope, rotation operand.Rotation) {
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
}

// scheduleSince returns the time after which scheduled times count as missed: the time that was
// handled last, or that of the last change of the schedule if it is later.
func scheduleSince(status *v1alpha1.SecureNotesStatus) time.Time {
	since := status.ObservedSchedule.Since.Time
	if last := status.LastScheduleTime; last != nil && last.After(since) {
		return last.Time
	}
	return since
}

// firstSeen returns since when a schedule counts if the status has no observedSchedule. An operator
// of a release that did not record it had handled everything up to lastScheduleTime. If it recorded
// only a next time, none had been due.
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
