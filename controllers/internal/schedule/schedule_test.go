package schedule

import (
	"strings"
	"testing"
	"time"
)

func clock(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestPlanSchedule(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ schedule, zone, since, now, missed, next string }{
		"nothing missed":                     {schedule: "0 3 1 * *", zone: "Etc/UTC", since: "2026-01-02T00:00:00Z", now: "2026-01-03T00:00:00Z", next: "2026-02-01T03:00:00Z"},
		"just due":                           {schedule: "0 3 1 * *", zone: "Etc/UTC", since: "2026-01-02T00:00:00Z", now: "2026-02-01T03:00:00Z", missed: "2026-02-01T03:00:00Z", next: "2026-03-01T03:00:00Z"},
		"many missed, one caught up":         {schedule: "0 3 * * *", zone: "Etc/UTC", since: "2026-01-01T00:00:00Z", now: "2026-03-01T12:00:00Z", missed: "2026-03-01T03:00:00Z", next: "2026-03-02T03:00:00Z"},
		"every minute, after a year":         {schedule: "* * * * *", zone: "Etc/UTC", since: "2025-01-01T00:00:00Z", now: "2026-01-01T00:00:30Z", missed: "2026-01-01T00:00:00Z", next: "2026-01-01T00:01:00Z"},
		"once a year, after three":           {schedule: "@yearly", zone: "Etc/UTC", since: "2022-06-01T00:00:00Z", now: "2025-06-01T00:00:00Z", missed: "2025-01-01T00:00:00Z", next: "2026-01-01T00:00:00Z"},
		"in a time zone":                     {schedule: "0 3 * * *", zone: "Europe/Berlin", since: "2026-01-01T00:00:00Z", now: "2026-01-01T01:00:00Z", next: "2026-01-01T02:00:00Z"},
		"left out in spring, for it":         {schedule: "30 2 29 3 *", zone: "Europe/Berlin", since: "2026-01-01T00:00:00Z", now: "2026-03-29T01:00:00Z", missed: "2026-03-29T01:00:00Z", next: "2027-03-29T00:30:00Z"},
		"left out in spring, to come":        {schedule: "30 2 * * *", zone: "Europe/Berlin", since: "2026-03-28T02:00:00Z", now: "2026-03-28T02:00:00Z", next: "2026-03-29T01:00:00Z"},
		"left out in spring, acted on":       {schedule: "30 2 * * *", zone: "Europe/Berlin", since: "2026-03-29T01:00:00Z", now: "2026-03-29T02:00:00Z", next: "2026-03-30T00:30:00Z"},
		"several left out in spring are one": {schedule: "*/20 2 * * *", zone: "Europe/Berlin", since: "2026-03-29T01:00:00Z", now: "2026-03-29T01:00:00Z", next: "2026-03-30T00:00:00Z"},
		"shown twice in autumn, to come":     {schedule: "30 2 * * *", zone: "Europe/Berlin", since: "2026-10-24T12:00:00Z", now: "2026-10-24T12:00:00Z", next: "2026-10-25T00:30:00Z"},
		"shown twice in autumn, acted on":    {schedule: "30 2 * * *", zone: "Europe/Berlin", since: "2026-10-25T00:30:00Z", now: "2026-10-25T01:45:00Z", next: "2026-10-26T01:30:00Z"},
		"shown twice in autumn, missed":      {schedule: "30 2 * * *", zone: "Europe/Berlin", since: "2026-10-24T12:00:00Z", now: "2026-10-25T12:00:00Z", missed: "2026-10-25T00:30:00Z", next: "2026-10-26T01:30:00Z"},
		"shown twice in autumn, every hour":  {schedule: "0 * * * *", zone: "Europe/Berlin", since: "2026-10-25T00:00:00Z", now: "2026-10-25T01:30:00Z", next: "2026-10-25T02:00:00Z"},
		"asked in the second hour of autumn": {schedule: "50 2 * * *", zone: "Europe/Berlin", since: "2026-10-25T01:10:00Z", now: "2026-10-25T01:10:00Z", next: "2026-10-26T01:50:00Z"},
		"midnight left out":                  {schedule: "@daily", zone: "America/Santiago", since: "2026-09-05T12:00:00Z", now: "2026-09-05T12:00:00Z", next: "2026-09-06T04:00:00Z"},
		"half an hour left out":              {schedule: "15 2 4 10 *", zone: "Australia/Lord_Howe", since: "2026-01-01T00:00:00Z", now: "2026-10-03T15:30:00Z", missed: "2026-10-03T15:30:00Z", next: "2027-10-03T15:15:00Z"},
		"half an hour shown twice":           {schedule: "45 1 5 4 *", zone: "Australia/Lord_Howe", since: "2026-01-01T00:00:00Z", now: "2026-04-05T00:00:00Z", missed: "2026-04-04T14:45:00Z", next: "2027-04-04T15:15:00Z"},
		"a day left out":                     {schedule: "0 3 30 12 *", zone: "Pacific/Apia", since: "2011-01-01T00:00:00Z", now: "2011-12-30T10:00:00Z", missed: "2011-12-30T10:00:00Z", next: "2012-12-29T13:00:00Z"},
		"the time already acted on":          {schedule: "0 3 * * *", zone: "Etc/UTC", since: "2026-01-01T03:00:00Z", now: "2026-01-01T04:00:00Z", next: "2026-01-02T03:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := New(Policy{Field: "spec.keyRotation", Schedule: tc.schedule, TimeZone: tc.zone}, clock(t, tc.since), clock(t, tc.now))
			if err != nil {
				t.Fatal(err)
			}
			if missed := (tc.missed != ""); missed == plan.Missed.IsZero() || (missed && !plan.Missed.Equal(clock(t, tc.missed))) {
				t.Errorf("missed is %s, want %q", plan.Missed, tc.missed)
			}
			if !plan.Next.Equal(clock(t, tc.next)) {
				t.Errorf("next is %s, want %s", plan.Next, tc.next)
			}
		})
	}
}

// TestOnceADay: a daily schedule runs once on each day of ten years, whatever the clock changes of
// the time zone.
func TestOnceADay(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"Etc/UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "Africa/Casablanca", "Asia/Gaza", "Australia/Lord_Howe", "Pacific/Apia"} {
		for _, minute := range []string{"0 0", "30 0", "0 2", "30 2", "59 2", "0 3"} {
			t.Run(zone+" "+minute, func(t *testing.T) {
				clock, err := parse(Policy{Field: "spec.keyRotation", Schedule: minute + " * * *", TimeZone: zone})
				if err != nil {
					t.Fatal(err)
				}
				location := clock.location
				begin := time.Date(2012, 1, 1, 12, 0, 0, 0, location)
				at := begin
				for day := 1; day <= 3653; day++ {
					at = clock.next(at)
					if want := begin.AddDate(0, 0, day); at.In(location).YearDay() != want.YearDay() {
						t.Fatalf("day %d: %s, want a time of %s", day, at, want.Format(time.DateOnly))
					}
				}
			})
		}
	}
}

func TestPlanScheduleRefuses(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ schedule, zone, want string }{
		"no schedule at all":         {schedule: "whenever", zone: "Etc/UTC", want: ".schedule"},
		"a zone in the words":        {schedule: "TZ=Asia/Tokyo 0 3 * * *", zone: "Etc/UTC", want: ".timeZone"},
		"every second":               {schedule: "@every 1s", zone: "Etc/UTC", want: "@every"},
		"a zone that is none":        {schedule: "@daily", zone: "Moon/Base", want: ".timeZone"},
		"a date that does not exist": {schedule: "0 0 30 2 *", zone: "Etc/UTC", want: "matches no date"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, field := range []string{"spec.keyRotation", "spec.backup"} {
				_, err := New(Policy{Field: field, Schedule: tc.schedule, TimeZone: tc.zone}, time.Unix(0, 0), time.Unix(1e9, 0))
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), field) {
					t.Errorf("the error does not name %q and %s: %v", tc.want, field, err)
				}
			}
		})
	}
}

// TestAfter returns the second time of a schedule, whatever the clock changes of its time zone.
func TestAfter(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ schedule, zone, after, want string }{
		"daily":                    {schedule: "@daily", zone: "Etc/UTC", after: "2026-01-01T12:00:00Z", want: "2026-01-03T00:00:00Z"},
		"at a time":                {schedule: "@daily", zone: "Etc/UTC", after: "2026-01-01T00:00:00Z", want: "2026-01-03T00:00:00Z"},
		"over the end of summer":   {schedule: "0 3 * * *", zone: "Europe/Berlin", after: "2026-10-24T12:00:00Z", want: "2026-10-26T02:00:00Z"},
		"over the start of summer": {schedule: "0 3 * * *", zone: "Europe/Berlin", after: "2026-03-28T12:00:00Z", want: "2026-03-30T01:00:00Z"},
		"never":                    {schedule: "0 0 30 2 *", zone: "Etc/UTC", after: "2026-01-01T00:00:00Z"},
		"invalid":                  {schedule: "whenever", zone: "Etc/UTC", after: "2026-01-01T00:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			got := After(Policy{Schedule: tc.schedule, TimeZone: tc.zone}, 2, clock(t, tc.after))
			if tc.want == "" && !got.IsZero() || tc.want != "" && !got.Equal(clock(t, tc.want)) {
				t.Errorf("got %s, want %q", got, tc.want)
			}
		})
	}
}
