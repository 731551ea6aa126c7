package keyrotation

import (
	"strings"
	"testing"
	"time"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/operand"
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
	for name, tc := range map[string]struct{ schedule, zone, since, now, missed, next string }{
		"nothing missed":             {"0 3 1 * *", "Etc/UTC", "2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z", "", "2026-02-01T03:00:00Z"},
		"just due":                   {"0 3 1 * *", "Etc/UTC", "2026-01-02T00:00:00Z", "2026-02-01T03:00:00Z", "2026-02-01T03:00:00Z", "2026-03-01T03:00:00Z"},
		"many missed, one caught up": {"0 3 * * *", "Etc/UTC", "2026-01-01T00:00:00Z", "2026-03-01T12:00:00Z", "2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"},
		"every minute, after a year": {"* * * * *", "Etc/UTC", "2025-01-01T00:00:00Z", "2026-01-01T00:00:30Z", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"},
		"once a year, after three":   {"@yearly", "Etc/UTC", "2022-06-01T00:00:00Z", "2025-06-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"},
		"in a time zone":             {"0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z", "", "2026-01-01T02:00:00Z"},
		"the time already acted on":  {"0 3 * * *", "Etc/UTC", "2026-01-01T03:00:00Z", "2026-01-01T04:00:00Z", "", "2026-01-02T03:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			plan, err := PlanSchedule(operand.Rotation{Schedule: tc.schedule, TimeZone: tc.zone}, clock(t, tc.since), clock(t, tc.now))
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

func TestPlanScheduleRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ schedule, zone, want string }{
		"no schedule at all":   {"whenever", "Etc/UTC", "spec.keyRotation.schedule"},
		"a zone in the words":  {"TZ=Asia/Tokyo 0 3 * * *", "Etc/UTC", "spec.keyRotation.timeZone"},
		"every second":         {"@every 1s", "Etc/UTC", "@every"},
		"a zone that is none":  {"@daily", "Moon/Base", "spec.keyRotation.timeZone"},
		"a date that never is": {"0 0 30 2 *", "Etc/UTC", "never comes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := PlanSchedule(operand.Rotation{Schedule: tc.schedule, TimeZone: tc.zone}, time.Unix(0, 0), time.Unix(1e9, 0))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error does not name %q: %v", tc.want, err)
			}
		})
	}
}

func TestPrunable(t *testing.T) {
	scheduled := func(kr *v1alpha1.KeyRotation) { kr.Labels = map[string]string{v1alpha1.LabelScheduled: "true"} }
	done := with(v1alpha1.ConditionComplete)
	list := []v1alpha1.KeyRotation{
		*rotation("a", scheduled, done), *rotation("b", scheduled, done), *rotation("c", scheduled, with(v1alpha1.ConditionFailed)),
		*rotation("by-hand", done), *rotation("unended", scheduled),
	}
	got := Prunable(list, 1)
	if len(got) != 2 || got[0].Name != "b" || got[1].Name != "a" {
		t.Errorf("prunable: %v", got)
	}
	if got := Prunable(list, 3); got != nil {
		t.Errorf("within the limit, and yet: %v", got)
	}
}
