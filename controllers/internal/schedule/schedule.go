// Package schedule reads the cron schedule of a SecureNotes' key rotations.
package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// Plan is what a schedule asks for.
type Plan struct {
	// Missed is the newest time that has passed without a rotation. It is zero if there is none.
	// Earlier missed times are not caught up.
	Missed time.Time
	// Next is the next time in the future.
	Next time.Time
}

// windows are searched for the newest missed time, the shortest first. A schedule of every minute
// is thus not walked minute by minute after a year's pause.
var windows = []time.Duration{time.Hour, 24 * time.Hour, 31 * 24 * time.Hour, 366 * 24 * time.Hour, 10 * 366 * 24 * time.Hour}

// New returns the plan of a schedule at now. since is the last scheduled time that was handled. An
// error names the field that cannot be read.
func New(rotation operand.Rotation, since, now time.Time) (Plan, error) {
	schedule, location, err := parse(rotation)
	if err != nil {
		return Plan{}, err
	}
	clock := wallClock{schedule, location}
	plan := Plan{Next: clock.next(now)}
	if plan.Next.IsZero() {
		return Plan{}, fmt.Errorf("spec.keyRotation.schedule %q matches no date: change it to a date that exists", rotation.Schedule)
	}
	for _, window := range windows {
		start := since
		if early := now.Add(-window); early.After(start) {
			start = early
		}
		for t := clock.next(start); !t.IsZero() && !t.After(now); t = clock.next(t) {
			plan.Missed = t
		}
		if !plan.Missed.IsZero() {
			break
		}
	}
	return plan, nil
}

// wallClock evaluates a schedule in the local time of a location. A time inside a daylight saving
// gap runs at the first instant after the gap. Otherwise "30 2 29 3 *" would be skipped for a year.
// A time that occurs twice runs the first time only. The cron library, given the location, would
// skip the one and run the other twice.
type wallClock struct {
	schedule cron.Schedule
	location *time.Location
}

// next returns the first time of the schedule after t, or the zero time if there is none.
func (c wallClock) next(t time.Time) time.Time {
	for wall := c.localTime(t); ; {
		if wall = c.schedule.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := c.firstInstant(wall); at.After(t) {
			return at
		}
	}
}

// localTime returns the local time at t as a time of UTC, which has no gaps.
func (c wallClock) localTime(t time.Time) time.Time {
	local := t.In(c.location)
	return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), time.UTC)
}

// firstInstant returns the first instant whose local time is wall, or the end of the gap that wall
// falls into.
func (c wallClock) firstInstant(wall time.Time) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), c.location)
	begin, end := at.ZoneBounds()
	// For a time in a gap Go returns an instant on either side; for a time that occurs twice,
	// either.
	switch local := c.localTime(at); {
	case local.Before(wall):
		return end
	case local.After(wall):
		return begin
	case !begin.IsZero():
		_, offset := begin.Add(-time.Nanosecond).Zone()
		if earlier := wall.Add(-time.Duration(offset) * time.Second); earlier.Before(begin) {
			return earlier.In(c.location)
		}
	}
	return at
}

func parse(rotation operand.Rotation) (cron.Schedule, *time.Location, error) {
	location, err := time.LoadLocation(rotation.TimeZone)
	if err != nil {
		return nil, nil, fmt.Errorf("spec.keyRotation.timeZone %q is not known: use a name such as Etc/UTC or Europe/Berlin", rotation.TimeZone)
	}
	text := rotation.Schedule
	if strings.Contains(text, "TZ=") {
		return nil, nil, errors.New("spec.keyRotation.schedule must not have a time zone of its own: use spec.keyRotation.timeZone")
	}
	if strings.HasPrefix(text, "@every") {
		return nil, nil, errors.New("spec.keyRotation.schedule must not use @every: use five fields such as \"0 3 1 * *\"")
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return nil, nil, fmt.Errorf("spec.keyRotation.schedule %q cannot be read: use five fields such as \"0 3 1 * *\", or @monthly", text)
	}
	return schedule, location, nil
}
