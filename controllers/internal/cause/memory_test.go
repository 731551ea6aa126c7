package cause

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
)

// asked is a Look that counts its questions, and answers with their number.
type asked struct {
	now            time.Time
	events, readyz int
}

func (a *asked) look() Look {
	return Look{
		Now: func() time.Time { return a.now },
		Events: func(client.Object) []corev1.Event {
			a.events++
			return []corev1.Event{{Reason: "FailedMount", Message: fmt.Sprint(a.events), LastTimestamp: metav1.NewTime(a.now)}}
		},
		Readyz: func(*corev1.Pod) string { a.readyz++; return fmt.Sprint(a.readyz) },
	}
}

// TestMemory: what one owner's pods have the operator look at is bounded for an interval, and an
// answer is remembered that long; another owner has a budget of its own.
func TestMemory(t *testing.T) {
	t.Parallel()
	memory, source := &Memory{}, &asked{}
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
		look := memory.Bound(tc.owner, source.look())
		var events, readyz []string
		for _, uid := range strings.Fields(tc.pods) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid)}}
			for list, answer := range map[*[]string]string{&events: look.said(pod, "FailedMount"), &readyz: look.readyz(pod)} {
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
	if memory.Bound("c", source.look()).said(pod(), "FailedMount"); len(memory.owners) != 1 {
		t.Errorf("%d owners are remembered, whose intervals have ended", len(memory.owners)-1)
	}
}

// TestMemoryIsSmall: of the events of an object the newest of each reason is remembered, and no
// more of it than is read.
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
	got := digest(all, now)
	if len(got) != maxReasons || got[0].Reason != "R0" || !got[0].LastTimestamp.Equal(new(ago(0))) || got[7].Reason != "R7" {
		t.Errorf("%d events, the first %s of %s", len(got), got[0].Reason, got[0].LastTimestamp)
	}
	for _, event := range got {
		if event.Annotations != nil || len(event.Message) > maxRead+1 || Words(event.Message) != Words(all[0].Message+all[1].Message) {
			t.Errorf("%d bytes of a message: %.20s", len(event.Message), Words(event.Message))
		}
	}
}

// TestForgedPodsOfAJob: anyone may create pods that a Job controls. They have the operator look at
// no more pods than the Job has indexes, and hide no cause.
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
	source := &asked{now: now}
	silent := source.look()
	count := silent.Events
	silent.Events = func(about client.Object) []corev1.Event { count(about); return nil }
	if got := OfJob(job(), 2, pods, silent, now); got.Reason != v1alpha1.ReasonVaultSealed || source.events > 3 {
		t.Errorf("%d lists of events: %s: %s", source.events, got.Reason, got)
	}
	if got := newest(job(), 2, pods); len(got) != 1 || got[0].Name != genuine.Name {
		t.Errorf("%d pods are looked at", len(got))
	}
	if got := OfJob(&batchv1.Job{}, -1, pods, Look{}, now); got.Known() {
		t.Errorf("a Job of no pods: %s", got)
	}
}
