package cause

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// countingLook is a Lookup that counts its requests and answers with their number.
type countingLook struct {
	now            time.Time
	events, readyz int
}

func (a *countingLook) lookup() Lookup {
	return Lookup{
		Now: func() time.Time { return a.now },
		Events: func(client.Object) []corev1.Event {
			a.events++
			return []corev1.Event{{Reason: "FailedMount", Message: fmt.Sprint(a.events), LastTimestamp: metav1.NewTime(a.now)}}
		},
		Readyz: func(*corev1.Pod) string { a.readyz++; return fmt.Sprint(a.readyz) },
	}
}

// TestMemory checks that the requests for one owner are limited in an interval, that answers are
// cached that long, and that another owner has its own budget.
func TestMemory(t *testing.T) {
	t.Parallel()
	memory, source := &Cache{}, &countingLook{}
	for i, tc := range []struct {
		owner          types.UID
		after          time.Duration
		pods           string
		events, readyz string
	}{
		{owner: "a", pods: "1 2 3 4 5", events: "1 2 3 - -", readyz: "1 - - - -"},
		{owner: "a", after: interval - 1, pods: "5 3 1", events: "- 3 1", readyz: "- - 1"},
		{owner: "b", after: interval - 1, pods: "1", events: "4", readyz: "2"},
		{owner: "a", after: interval, pods: "5 1", events: "5 6", readyz: "3 -"},
	} {
		source.now = now.Add(tc.after)
		lookup := memory.Bound(tc.owner, source.lookup())
		var events, readyz []string
		for _, uid := range strings.Fields(tc.pods) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
			for list, answer := range map[*[]string]string{&events: lookup.message(pod, "FailedMount"), &readyz: lookup.readyz(pod)} {
				if answer == "" {
					answer = "-"
				}
				*list = append(*list, answer)
			}
		}
		if got := strings.Join(events, " "); got != tc.events {
			t.Errorf("pass %d: events %q, want %q", i, got, tc.events)
		}
		if got := strings.Join(readyz, " "); got != tc.readyz {
			t.Errorf("pass %d: /readyz %q, want %q", i, got, tc.readyz)
		}
	}
	source.now = now.Add(3 * interval)
	if memory.Bound("c", source.lookup()).message(pod(), "FailedMount"); len(memory.owners) != 1 {
		t.Errorf("%d owners whose intervals have ended are still cached", len(memory.owners)-1)
	}
}

// TestMemoryIsSmall checks that only the newest event of each reason of an object is cached, and
// only the fields that are used.
func TestMemoryIsSmall(t *testing.T) {
	t.Parallel()
	var all []corev1.Event
	for i := range 100 {
		all = append(all, corev1.Event{
			Reason: fmt.Sprint("R", i/5), Message: strings.Repeat("x", 100_000), LastTimestamp: ago(time.Duration(i) * time.Second),
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"a": strings.Repeat("x", 100_000)}},
		})
	}
	all = append(all, corev1.Event{Reason: "Old", LastTimestamp: ago(time.Hour)})
	slices.Reverse(all)
	got := condense(all, now)
	if len(got) != maxReasons || got[0].Reason != "R0" || !got[0].LastTimestamp.Equal(new(ago(0))) || got[7].Reason != "R7" {
		t.Errorf("%d events, the first %s of %s", len(got), got[0].Reason, got[0].LastTimestamp)
	}
	for _, event := range got {
		if event.Annotations != nil || len(event.Message) > maxInput+utf8.UTFMax || Sanitize(event.Message) != Sanitize(all[0].Message+all[1].Message) {
			t.Errorf("%d bytes of a message: %.20s", len(event.Message), Sanitize(event.Message))
		}
	}
}

// TestForgedPodsOfAJob checks that pods that someone else created with a Job as controller hide no
// cause, and do not make the operator read more pods than the Job has indexes.
func TestForgedPodsOfAJob(t *testing.T) {
	t.Parallel()
	genuine := podOf("1", time.Minute, container("job", ended(1, "Error", vaultSealed), none), failed)
	pods := []corev1.Pod{genuine}
	for _, index := range []string{"x", "", "2", "-1", "+1", "01", "1x", "99999999999999999999"} {
		pods = append(pods, podOf(index, time.Second))
		pods[len(pods)-1].CreationTimestamp = ago(time.Minute)
	}
	for i := range 300 {
		pods = append(pods, podOf(fmt.Sprintf("f%d", i), time.Minute))
	}
	source := &countingLook{now: now}
	silent := source.lookup()
	count := silent.Events
	silent.Events = func(about client.Object) []corev1.Event { count(about); return nil }
	if got := OfJob(job(), 2, pods, silent, now); got.Reason != v1alpha1.ReasonVaultSealed || source.events > 3 {
		t.Errorf("%d lists of events: %s: %s", source.events, got.Reason, got)
	}
	if got := newestPods(job(), 2, pods); len(got) != 1 || got[0].Name != genuine.Name {
		t.Errorf("got %d pods, want only the genuine one", len(got))
	}
	if got := OfJob(&batchv1.Job{}, -1, pods, Lookup{}, now); got.Known() {
		t.Errorf("a Job of no pods: %s", got)
	}
}
