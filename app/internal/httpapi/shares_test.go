package httpapi

import (
	"errors"
	"testing"
)

func TestShares(t *testing.T) {
	type step struct {
		user string
		// n is given back when it is below 0.
		n   int
		err error
	}
	for name, steps := range map[string][]step{
		"all of it":          {{"a", 6, nil}, {"b", 4, nil}, {"c", 1, errBusy}},
		"all of the own":     {{"a", 6, nil}, {"a", 1, errOwnShare}, {"b", 1, nil}},
		"given back":         {{"a", 6, nil}, {"b", 4, nil}, {"a", -6, nil}, {"c", 6, nil}, {"c", 1, errOwnShare}},
		"more than there is": {{"a", 7, errOwnShare}, {"a", 6, nil}},
		"refused is free":    {{"a", 5, nil}, {"a", 2, errOwnShare}, {"a", 1, nil}, {"b", 5, errBusy}, {"b", 4, nil}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShares(10, 6)
			for i, step := range steps {
				if step.n < 0 {
					s.give(step.user, -step.n)
				} else if err := s.take(step.user, step.n); !errors.Is(err, step.err) {
					t.Errorf("step %d: %v, want %v", i, err, step.err)
				}
			}
		})
	}
}
