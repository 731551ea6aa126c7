package cause

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// interval is how long an answer is remembered.
	interval = 15 * time.Second
	// maxLists and maxAsked bound, for one owner and interval, the lists of events and the pods
	// that are asked for /readyz.
	maxLists, maxAsked = 3, 1
	// maxReasons bounds the events of one object that are remembered: the newest of each reason.
	maxReasons = 8
)

// Memory bounds how often the operator looks past its cache. Anyone who may create pods in a
// namespace decides how many there are to look at, and how often they change.
//
// For one owner, a SecureNotes or a KeyRotation, an interval begins with its first question. Until
// it ends, an answer is remembered, and once the budget is spent, further questions have none.
type Memory struct {
	mu     sync.Mutex
	owners map[types.UID]*answers
}

// answers are those of one owner and interval.
type answers struct {
	until  time.Time
	events map[types.UID][]corev1.Event
	readyz map[types.UID]string
}

// Bound returns a Look that asks look, within the budget of owner.
func (m *Memory) Bound(owner types.UID, look Look) Look {
	bounded := Look{Now: look.Now}
	if look.Events != nil {
		bounded.Events = func(about client.Object) []corev1.Event {
			return remembered(m, owner, look.Now(), about.GetUID(), maxLists, func(a *answers) *map[types.UID][]corev1.Event { return &a.events },
				func() []corev1.Event { return digest(look.Events(about), look.Now()) })
		}
	}
	if look.Readyz != nil {
		bounded.Readyz = func(pod *corev1.Pod) string {
			return remembered(m, owner, look.Now(), pod.UID, maxAsked, func(a *answers) *map[types.UID]string { return &a.readyz },
				func() string { return look.Readyz(pod) })
		}
	}
	return bounded
}

// Live is the Look of owner past the cache.
func (m *Memory) Live(ctx context.Context, reader client.Reader, now func() time.Time, owner types.UID) Look {
	return m.Bound(owner, Live(ctx, reader, now))
}

// remembered returns the answer about an object: the remembered one, or else that of ask, if the
// budget has not been spent. of chooses the kind of answers.
func remembered[T any](m *Memory, owner types.UID, now time.Time, about types.UID, budget int, of func(*answers) *map[types.UID]T, ask func() T) T {
	m.mu.Lock()
	all := of(m.of(owner, now))
	answer, known := (*all)[about]
	if !known && len(*all) < budget {
		if *all == nil {
			*all = map[types.UID]T{}
		}
		(*all)[about] = answer // takes its place in the budget before it is known
		m.mu.Unlock()
		answer = ask()
		m.mu.Lock()
		(*all)[about] = answer
	}
	m.mu.Unlock()
	return answer
}

// of returns the answers of the owner's interval, and forgets every interval that has ended.
func (m *Memory) of(owner types.UID, now time.Time) *answers {
	if current := m.owners[owner]; current != nil && now.Before(current.until) {
		return current
	}
	maps.DeleteFunc(m.owners, func(_ types.UID, a *answers) bool { return !now.Before(a.until) })
	if m.owners == nil {
		m.owners = map[types.UID]*answers{}
	}
	m.owners[owner] = &answers{until: now.Add(interval)}
	return m.owners[owner]
}

// digest returns what is looked at of events, and a bounded number of bytes of it.
func digest(events []corev1.Event, now time.Time) []corev1.Event {
	newest := map[string]corev1.Event{}
	for _, event := range events {
		if other, ok := newest[event.Reason]; now.Sub(at(event)) <= eventLife && (!ok || at(other).Before(at(event))) {
			newest[event.Reason] = event
		}
	}
	kept := slices.SortedFunc(maps.Values(newest), func(a, b corev1.Event) int {
		return cmp.Or(at(b).Compare(at(a)), cmp.Compare(a.Reason, b.Reason))
	})
	kept = kept[:min(len(kept), maxReasons)]
	for i, event := range kept {
		kept[i] = corev1.Event{Reason: event.Reason, Message: readable(event.Message), LastTimestamp: metav1.NewTime(at(event))}
	}
	return kept
}
