package httpapi

import (
	"errors"
	"testing"
	"time"
)

// TestPoolMakesRoom: a full pool preempts the request that has waited for its client for longest,
// of the user who holds the most. Requests that do not wait for their client keep their memory.
func TestPoolMakesRoom(t *testing.T) {
	type holder struct {
		user  string
		bytes int
		age   time.Duration
		waits bool
	}
	old := 2 * preemptAfter
	for name, tc := range map[string]struct {
		holders []holder
		asks    string
		// preempted is the index of the holder that is preempted; -1 means none.
		preempted int
	}{
		"the longest":                {holders: []holder{{"a", 5, old, true}, {"a", 5, 2 * old, true}}, asks: "another", preempted: 1},
		"of the user who holds most": {holders: []holder{{"a", 4, 2 * old, true}, {"b", 6, old, true}}, asks: "another", preempted: 1},
		"that waits for its client":  {holders: []holder{{"a", 5, 2 * old, false}, {"a", 5, old, true}}, asks: "another", preempted: 1},
		"of a user at the limit":     {holders: []holder{{"b", 1, 2 * old, true}, {"a", 8, old, true}}, asks: "a", preempted: 1},
		"none waits for its client":  {holders: []holder{{"a", 5, old, false}, {"b", 5, old, false}}, asks: "another", preempted: -1},
		"none has waited for long":   {holders: []holder{{"a", 5, 0, true}, {"a", 5, preemptAfter / 2, true}}, asks: "another", preempted: 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPool(10, 10)
			preempted := -1
			for i, h := range tc.holders {
				r := &reservation{pool: p, user: h.user}
				if err := p.reserve(r, h.bytes); err != nil {
					t.Fatal(err)
				}
				r.since = time.Now().Add(-h.age)
				if h.waits {
					r.setPreempt(func() {
						preempted = i
						go p.release(r)
					})
				}
			}
			var want error
			if tc.preempted < 0 {
				want = errBusy
			}
			if err := p.reserve(&reservation{pool: p, user: tc.asks, mayWait: true}, 3); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
			if preempted != tc.preempted {
				t.Errorf("request %d is preempted, want %d", preempted, tc.preempted)
			}
		})
	}
}
