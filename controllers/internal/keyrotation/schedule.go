package keyrotation

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
	// Missed is the newest time that has passed without a rotation; zero: none. Earlier ones are
	// not caught up.
	Missed time.Time
	// Next is the next time to come.
	Next time.Time
}

// windows in which the newest missed time is looked for, so that a schedule of every minute after a
// year's pause is not walked minute by minute.
var windows = []time.Duration{time.Hour, 24 * time.Hour, 31 * 24 * time.Hour, 366 * 24 * time.Hour, 10 * 366 * 24 * time.Hour}

// PlanSchedule reads the schedule. since is the last time that was acted on. Errors: a schedule or
// time zone that cannot be read, naming the field.
func PlanSchedule(rotation operand.Rotation, since, now time.Time) (Plan, error) {
	schedule, location, err := parse(rotation)
	if err != nil {
		return Plan{}, err
	}
	clock := wallClock{schedule, location}
	plan := Plan{Next: clock.next(now)}
	if plan.Next.IsZero() {
		return Plan{}, fmt.Errorf("spec.keyRotation.schedule %q never comes: change it to a date that exists", rotation.Schedule)
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

// wallClock reads a schedule as the clock on the wall shows it, which is how people mean it. A time that the clock leaves
// out, when it is put forward, comes at the first instant after the gap: else "30 2 29 3 *" would be left out for a year.
// One that it shows twice, when it is put back, comes the first time only. The cron library, given the location, would leave
// out the one and give the other twice.
type wallClock struct {
	schedule cron.Schedule
	location *time.Location
}

// next is the first time of the schedule after t; zero: there is none.
func (c wallClock) next(t time.Time) time.Time {
	for wall := c.shown(t); ; {
		if wall = c.schedule.Next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := c.firstShown(wall); at.After(t) {
			return at
		}
	}
}

// shown is what the clock shows at t, as a time of UTC, where there is a time for everything.
func (c wallClock) shown(t time.Time) time.Time {
	local := t.In(c.location)
	return time.Date(local.Year(), local.Month(), local.Day(), local.Hour(), local.Minute(), local.Second(), local.Nanosecond(), time.UTC)
}

// firstShown is the first instant at which the clock shows wall or, where it leaves that out, more.
func (c wallClock) firstShown(wall time.Time) time.Time {
	at := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), c.location)
	begin, end := at.ZoneBounds()
	// Of what is left out Go gives an instant on either side of the gap; of what is shown twice, either one.
	switch shown := c.shown(at); {
	case shown.Before(wall):
		return end
	case shown.After(wall):
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
