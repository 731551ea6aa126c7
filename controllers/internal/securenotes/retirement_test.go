package securenotes

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

func TestDueRetirement(t *testing.T) {
	entry := func(to int64, in time.Duration) v1alpha1.PendingRetirement {
		return v1alpha1.PendingRetirement{ToVersion: to, Due: metav1.NewTime(now.Add(in))}
	}
	for name, tc := range map[string]struct {
		list []v1alpha1.PendingRetirement
		want int64
		wake time.Duration
	}{
		"none":                               {nil, 0, 0},
		"not yet":                            {[]v1alpha1.PendingRetirement{entry(2, time.Hour)}, 0, time.Hour},
		"now":                                {[]v1alpha1.PendingRetirement{entry(2, 0)}, 2, 0},
		"the newest covers the older":        {[]v1alpha1.PendingRetirement{entry(2, -time.Hour), entry(4, 0), entry(3, -time.Minute)}, 4, 0},
		"a newer one that is not due waits":  {[]v1alpha1.PendingRetirement{entry(2, 0), entry(3, time.Minute)}, 2, time.Minute},
		"a compromise overtakes a long wait": {[]v1alpha1.PendingRetirement{entry(2, 720*time.Hour), entry(3, 0)}, 3, 720 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			s := healthy()
			s.sn.Status.MasterKey = &v1alpha1.MasterKeyStatus{PendingRetirements: tc.list}
			got := int64(0)
			if due := dueRetirement(s); due != nil {
				got = due.ToVersion
			}
			if got != tc.want || s.requeue != tc.wake {
				t.Errorf("due is %d, woken after %s; want %d, %s", got, s.requeue, tc.want, tc.wake)
			}
		})
	}
}
