package securenotes

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/schedule"
)

// calendar is a schedule of the spec with its record in the status.
type calendar struct {
	schedule.Policy
	// what is what the schedule creates, for the log.
	what string
	// observed and handled are the fields of the status. next is the next scheduled time.
	observed      **v1alpha1.ObservedSchedule
	handled, next **metav1.Time
	// firstSeen is since when the schedule counts if the status has no observedSchedule.
	firstSeen time.Time
	// running reports whether an object that the schedule created has not ended. Objects of a
	// schedule that is faster than they are must not pile up.
	running bool
	// create creates the object that was due, and reports whether it exists. Its name is derived
	// from the due time, so a repeated pass, of this operator or another, creates no second one.
	create func(due time.Time) (exists bool, err error)
	// trouble is set if the schedule is invalid.
	trouble *finding
}

// createScheduled creates the object that is due.
func (s *scope) createScheduled(c calendar) error {
	c.record(s.now) // an empty one too: one that is set later counts from that time
	*c.next = nil
	if c.Schedule == "" {
		return nil
	}
	plan, err := schedule.New(c.Policy, c.since(s.now), s.now)
	if err != nil {
		*c.trouble = bad(v1alpha1.ReasonInvalidSchedule, err.Error())
		return nil
	}
	if c.Suspend {
		return nil
	}
	*c.next = new(metav1.NewTime(plan.Next))
	s.requeueAfter(plan.Next.Sub(s.now), "the next scheduled "+c.what)
	if plan.Missed.IsZero() || !s.hasKeys || c.running {
		return nil
	}
	if exists, err := c.create(plan.Missed); err != nil || !exists {
		return err
	}
	*c.handled = new(metav1.NewTime(plan.Missed))
	return nil
}

// record records the schedule in the status, and since when it counts: since its last change, or
// since now if the recorded time is after now.
func (c calendar) record(now time.Time) {
	observed := v1alpha1.ObservedSchedule{Schedule: c.Schedule, TimeZone: c.TimeZone}
	switch before := *c.observed; {
	case before == nil && !c.firstSeen.After(now):
		observed.Since = metav1.NewTime(c.firstSeen)
	case before != nil && before.Schedule == observed.Schedule && before.TimeZone == observed.TimeZone && !before.Since.After(now):
		observed.Since = before.Since
	default:
		observed.Since = metav1.NewTime(now)
	}
	*c.observed = &observed
}

// since returns the time after which scheduled times count as missed: the time that was handled
// last, or that of the last change of the schedule if it is later. A handled time after now does
// not count: the operator's clock was ahead then, and the schedule would stop until that time.
func (c calendar) since(now time.Time) time.Time {
	since := (*c.observed).Since.Time
	if last := *c.handled; last != nil && last.After(since) && !last.After(now) {
		return last.Time
	}
	return since
}

// scheduledName returns the name of what a schedule creates for a time.
func scheduledName(sn *v1alpha1.SecureNotes, due time.Time) string {
	return fmt.Sprintf("%s-%d", sn.Name, due.Unix()/60)
}

// firstSeen returns since when a schedule counts that the status does not record. Any change of the
// spec may have added it.
func (s *scope) firstSeen() time.Time {
	if s.sn.Generation <= 1 {
		return s.sn.CreationTimestamp.Time
	}
	return s.now
}
