package retirement

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

var now = time.Unix(1_000_000_000, 0)

func TestDueRetirement(t *testing.T) {
	t.Parallel()
	entry := func(to int64, in time.Duration) v1alpha1.PendingRetirement {
		return v1alpha1.PendingRetirement{ToVersion: to, Due: metav1.NewTime(now.Add(in))}
	}
	for name, tc := range map[string]struct {
		list []v1alpha1.PendingRetirement
		want int64
		wait time.Duration
	}{
		"none":                               {list: nil, want: 0, wait: 0},
		"not yet":                            {list: []v1alpha1.PendingRetirement{entry(2, time.Hour)}, want: 0, wait: time.Hour},
		"now":                                {list: []v1alpha1.PendingRetirement{entry(2, 0)}, want: 2},
		"the newest covers the older":        {list: []v1alpha1.PendingRetirement{entry(2, -time.Hour), entry(4, 0), entry(3, -time.Minute)}, want: 4},
		"a newer one that is not due waits":  {list: []v1alpha1.PendingRetirement{entry(2, 0), entry(3, time.Minute)}, want: 2, wait: time.Minute},
		"a compromise overtakes a long wait": {list: []v1alpha1.PendingRetirement{entry(2, 720*time.Hour), entry(3, 0)}, want: 3, wait: 720 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			got := int64(0)
			due, wait := Due(tc.list, now)
			if due != nil {
				got = due.ToVersion
			}
			if got != tc.want || wait != tc.wait {
				t.Errorf("due is %d, the next after %s; want %d, %s", got, wait, tc.want, tc.wait)
			}
		})
	}
}

// TestFullRetirements: the entry that a full list drops is covered by the one that replaces it.
func TestFullRetirements(t *testing.T) {
	t.Parallel()
	var list []v1alpha1.PendingRetirement
	for version := range int64(Max + 3) {
		list = Add(list, v1alpha1.PendingRetirement{ToVersion: version + 2, Due: metav1.Unix(version, 0)})
	}
	last := list[len(list)-1]
	if len(list) != Max || last.ToVersion != Max+4 || last.Due.Unix() != Max+2 {
		t.Errorf("%d entries, the last %+v", len(list), last)
	}
}

// TestRetirementsAreBounded: however often the key is rotated, each version is destroyed when it is
// due or not much later.
func TestRetirementsAreBounded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ every, after, latest time.Duration }{
		"weekly":     {every: 168 * time.Hour, after: 8760 * time.Hour, latest: 8760 * time.Hour},
		"daily":      {every: 24 * time.Hour, after: 2160 * time.Hour, latest: 3240 * time.Hour},
		"every hour": {every: time.Hour, after: 2160 * time.Hour, latest: 4320 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			var list []v1alpha1.Retirement
			destroyed := int64(0) // every version up to this one is
			for to := int64(2); to < 4000; to++ {
				at := now.Add(time.Duration(to) * tc.every) // the time of version to-1, which is retired
				list = AddPast(AddPast(list, to, at), to, at)
				if len(list) > Max || list[len(list)-1].ToVersion != to {
					t.Fatalf("%d retirements: %+v", len(list), list)
				}
				for at.Sub(list[0].Time.Time) >= tc.after {
					destroyed, list = list[0].ToVersion-1, list[1:]
				}
				if since := time.Duration(to-destroyed-2) * tc.every; since > tc.latest {
					t.Fatalf("version %d was retired %s ago and is still there", destroyed+1, since)
				}
			}
		})
	}
}

func TestRecorded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		key  *v1alpha1.MasterKeyStatus
		want bool
	}{
		"no key":                {key: nil, want: false},
		"nothing is pending":    {key: &v1alpha1.MasterKeyStatus{}, want: false},
		"an older one":          {key: &v1alpha1.MasterKeyStatus{PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: 2}}}, want: false},
		"it is pending":         {key: &v1alpha1.MasterKeyStatus{PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: 2}, {ToVersion: 3}}}, want: true},
		"a newer one":           {key: &v1alpha1.MasterKeyStatus{PendingRetirements: []v1alpha1.PendingRetirement{{ToVersion: 4}}}, want: true},
		"the floor is below it": {key: &v1alpha1.MasterKeyStatus{MinDecryptionFloor: 2}, want: false},
		"it is done":            {key: &v1alpha1.MasterKeyStatus{MinDecryptionFloor: 3}, want: true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Recorded(tc.key, 3); got != tc.want {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestPostpone: a failed attempt is recorded with its number, and the next one creates another Job.
func TestPostpone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		attempt, next int32
		message       string
		trimWait      time.Duration
	}{
		"of an earlier release": {attempt: 0, next: 2, message: "attempt 1: ", trimWait: time.Hour},
		"the first":             {attempt: 1, next: 2, message: "attempt 1: ", trimWait: time.Hour},
		"the third":             {attempt: 3, next: 4, message: "attempt 3: ", trimWait: 4 * time.Hour},
		"a late one":            {attempt: 90, next: 91, message: "attempt 90: ", trimWait: MaxTrimRetry},
	} {
		t.Run(name, func(t *testing.T) {
			pending := v1alpha1.PendingRetirement{Attempt: tc.attempt, JobUID: "uid", JobDigest: "digest"}
			if wait := Postpone(&pending, now, "it failed"); wait != Retry || !pending.Due.Time.Equal(now.Add(Retry)) {
				t.Errorf("got %s and due at %s, want %s", wait, pending.Due, Retry)
			}
			list := []v1alpha1.Retirement{{ToVersion: 2}, {ToVersion: 3, Attempt: tc.attempt, JobUID: "uid", JobDigest: "digest"}}
			wait := PostponeTrim(list, &list[1], now, "Reason", "it failed")
			for _, entry := range list {
				if wait != tc.trimWait || entry.RetryTime == nil || !entry.RetryTime.Time.Equal(now.Add(tc.trimWait)) {
					t.Errorf("got %s and %+v, want %s for every entry", wait, entry, tc.trimWait)
				}
			}
			for what, got := range map[string]v1alpha1.Retirement{
				"the retirement": {Attempt: pending.Attempt, JobUID: pending.JobUID, JobDigest: pending.JobDigest, Message: pending.Message}, "the trim": list[1],
			} {
				if got.Attempt != tc.next || got.JobUID != "" || got.JobDigest != "" || !strings.HasPrefix(got.Message, tc.message) {
					t.Errorf("%s: got %+v, want attempt %d without a Job, and %q", what, got, tc.next, tc.message)
				}
			}
		})
	}
}
