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
	now, since = now.In(location), since.In(location)
	plan := Plan{Next: schedule.Next(now)}
	if plan.Next.IsZero() {
		return Plan{}, fmt.Errorf("spec.keyRotation.schedule %q never comes: change it to a date that exists", rotation.Schedule)
	}
	for _, window := range windows {
		start := since
		if early := now.Add(-window); early.After(start) {
			start = early
		}
		for t := schedule.Next(start); !t.IsZero() && !t.After(now); t = schedule.Next(t) {
			plan.Missed = t
		}
		if !plan.Missed.IsZero() {
			break
		}
	}
	return plan, nil
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
