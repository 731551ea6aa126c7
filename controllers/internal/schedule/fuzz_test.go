package schedule

import (
	"strings"
	"testing"
	"time"
)

// FuzzPlanSchedule: whatever a tenant writes, either an error names the field, or there is a next
// time, and a missed time lies between since and now.
func FuzzPlanSchedule(f *testing.F) {
	year2100 := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC).Unix()
	f.Add("0 3 1 * *", "Etc/UTC", int64(1_700_000_000), int64(1_800_000_000))
	f.Add("30 2 * * *", "Europe/Berlin", int64(1_774_000_000), int64(1_775_000_000))
	f.Add("* * * * *", "Pacific/Apia", int64(0), year2100)
	f.Add("@monthly", "America/Santiago", int64(0), int64(0))
	f.Add("0 0 30 2 *", "Asia/Gaza", int64(0), int64(1))
	f.Fuzz(func(t *testing.T, schedule, zone string, since, now int64) {
		if now < 0 || now > year2100 || since < 0 || since > now || len(schedule) > 100 || len(zone) > 64 {
			return // the first two the clock does not say, the CRD does not let the others in
		}
		begin, end := time.Unix(since, 0), time.Unix(now, 0)
		plan, err := New(Policy{Field: "spec.keyRotation", Schedule: schedule, TimeZone: zone}, begin, end)
		if err != nil {
			if !strings.Contains(err.Error(), "spec.keyRotation.") {
				t.Errorf("the error names no field: %v", err)
			}
			return
		}
		if !plan.Next.After(end) {
			t.Errorf("next is %s, at %s", plan.Next, end)
		}
		if !plan.Missed.IsZero() && (!plan.Missed.After(begin) || plan.Missed.After(end)) {
			t.Errorf("missed is %s, which is not between %s and %s", plan.Missed, begin, end)
		}
	})
}
