// Package schedule reads the cron schedules of a SecureNotes: of its key rotations and of its
// backups.
package schedule

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Policy is a schedule of the spec.
type Policy struct {
	// Field is the field of the spec that has the schedule and the time zone, for error messages.
	// TimeZoneField is that of the time zone, if it is another one.
	Field, TimeZoneField string
	// Schedule is in Cron format. If it is empty, there is none.
	Schedule string
	// TimeZone is the IANA time zone of the schedule.
	TimeZone string
	// Suspend stops the schedule.
	Suspend bool
}

// Plan is what a schedule asks for.
type Plan struct {
	// Missed is the newest time that has passed and was not handled. It is zero if there is none.
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
func New(policy Policy, since, now time.Time) (Plan, error) {
	clock, err := parse(policy)
	if err != nil {
		return Plan{}, err
	}
	plan := Plan{Next: clock.next(now)}
	if plan.Next.IsZero() {
		return Plan{}, fmt.Errorf("%s.schedule %q matches no date: change it to a date that exists", policy.Field, policy.Schedule)
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

// After returns the n-th time of the schedule after t. It is zero if there is none, or if the
// schedule cannot be read.
func After(policy Policy, n int, t time.Time) time.Time {
	clock, err := parse(policy)
	if err != nil {
		return time.Time{}
	}
	for ; n > 0 && !t.IsZero(); n-- {
		t = clock.next(t)
	}
	return t
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

func parse(policy Policy) (wallClock, error) {
	zoneField := cmp.Or(policy.TimeZoneField, policy.Field)
	location, err := time.LoadLocation(policy.TimeZone)
	if err != nil {
		return wallClock{}, fmt.Errorf("%s.timeZone %q is not known: use a name such as Etc/UTC or Europe/Berlin", zoneField, policy.TimeZone)
	}
	text := policy.Schedule
	if strings.Contains(text, "TZ=") {
		return wallClock{}, fmt.Errorf("%s.schedule must not have a time zone of its own: use %s.timeZone", policy.Field, zoneField)
	}
	if strings.HasPrefix(text, "@every") {
		return wallClock{}, fmt.Errorf("%s.schedule must not use @every: use five fields such as \"0 3 1 * *\"", policy.Field)
	}
	schedule, err := cron.ParseStandard(text)
	if err != nil {
		return wallClock{}, fmt.Errorf("%s.schedule %q cannot be read: use five fields such as \"0 3 1 * *\", or @monthly", policy.Field, text)
	}
	return wallClock{schedule, location}, nil
}
