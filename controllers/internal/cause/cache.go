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
	// interval is how long an answer is cached.
	interval = 15 * time.Second
	// maxEventLists and maxReadyzCalls limit the requests for one owner in an interval.
	maxEventLists, maxReadyzCalls = 3, 1
	// maxReasons is the number of events of one object that are cached: the newest of each reason.
	maxReasons = 8
)

// Cache limits how often the operator reads past its cache. Without it, anyone who may create pods
// in a namespace could make the operator send any number of requests.
//
// Each owner, a SecureNotes or a KeyRotation, has a budget for an interval, which starts with the
// owner's first request. Answers are cached until the interval ends. Once the budget is spent,
// further requests return nothing.
type Cache struct {
	mu     sync.Mutex
	owners map[types.UID]*answers
}

// answers are the cached answers for one owner and interval.
type answers struct {
	until  time.Time
	events map[types.UID][]corev1.Event
	readyz map[types.UID]string
}

// Bound returns a Lookup that uses lookup within the budget of owner.
func (m *Cache) Bound(owner types.UID, lookup Lookup) Lookup {
	bounded := Lookup{Now: lookup.Now}
	if lookup.Events != nil {
		bounded.Events = func(about client.Object) []corev1.Event {
			return cached(m, owner, lookup.Now(), about.GetUID(), maxEventLists, func(a *answers) *map[types.UID][]corev1.Event { return &a.events },
				func() []corev1.Event { return condense(lookup.Events(about), lookup.Now()) })
		}
	}
	if lookup.Readyz != nil {
		bounded.Readyz = func(pod *corev1.Pod) string {
			return cached(m, owner, lookup.Now(), pod.UID, maxReadyzCalls, func(a *answers) *map[types.UID]string { return &a.readyz },
				func() string { return lookup.Readyz(pod) })
		}
	}
	return bounded
}

// Live returns a [Live] Lookup within the budget of owner.
func (m *Cache) Live(ctx context.Context, reader client.Reader, now func() time.Time, owner types.UID) Lookup {
	return m.Bound(owner, Live(ctx, reader, now))
}

// cached returns the cached answer about an object, or else that of ask if the budget allows it.
// kind selects the kind of answers.
func cached[T any](m *Cache, owner types.UID, now time.Time, about types.UID, budget int, kind func(*answers) *map[types.UID]T, ask func() T) T {
	m.mu.Lock()
	all := kind(m.answersOf(owner, now))
	answer, known := (*all)[about]
	if !known && len(*all) < budget {
		if *all == nil {
			*all = map[types.UID]T{}
		}
		(*all)[about] = answer // counts towards the budget while ask runs
		m.mu.Unlock()
		answer = ask()
		m.mu.Lock()
		(*all)[about] = answer
	}
	m.mu.Unlock()
	return answer
}

// answersOf returns the answers of the owner's current interval, and drops intervals that have
// ended.
func (m *Cache) answersOf(owner types.UID, now time.Time) *answers {
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

// condense returns the newest event of each reason with the fields that are used, in bounded size.
func condense(events []corev1.Event, now time.Time) []corev1.Event {
	newest := map[string]corev1.Event{}
	for _, event := range events {
		if other, ok := newest[event.Reason]; now.Sub(lastSeen(event)) <= maxEventAge && (!ok || lastSeen(other).Before(lastSeen(event))) {
			newest[event.Reason] = event
		}
	}
	kept := slices.SortedFunc(maps.Values(newest), func(a, b corev1.Event) int {
		return cmp.Or(lastSeen(b).Compare(lastSeen(a)), cmp.Compare(a.Reason, b.Reason))
	})
	kept = kept[:min(len(kept), maxReasons)]
	for i, event := range kept {
		kept[i] = corev1.Event{Reason: event.Reason, Message: readable(event.Message), LastTimestamp: metav1.NewTime(lastSeen(event))}
	}
	return kept
}
