package chaos

import "testing"

func mustHold(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestHistory checks that a possible result of a read is accepted, and that an impossible one is
// reported.
func TestHistory(t *testing.T) {
	a, b, c, gone := Value{Content: "a"}, Value{Content: "b"}, Value{Content: "c"}, Value{Gone: true}
	written := func() *History {
		h := &History{}
		h.Acknowledge(h.Begin(a))
		return h
	}
	for name, test := range map[string]struct {
		do     func(h *History) error
		refuse bool
	}{
		"the last write": {do: func(h *History) error { return h.EndRead(h.BeginRead(), a) }},
		"a write that has no answer yet": {do: func(h *History) error {
			h.Begin(b)
			return h.EndRead(h.BeginRead(), b)
		}},
		"the write before one that has no answer yet": {do: func(h *History) error {
			h.Begin(b)
			return h.EndRead(h.BeginRead(), a)
		}},
		"the previous write, if the read began earlier": {do: func(h *History) error {
			least := h.BeginRead()
			h.Acknowledge(h.Begin(b))
			return h.EndRead(least, a)
		}},
		"a lost update": {refuse: true, do: func(h *History) error {
			h.Acknowledge(h.Begin(b))
			return h.EndRead(h.BeginRead(), a)
		}},
		"a write that disappears after it was read": {refuse: true, do: func(h *History) error {
			h.Begin(b)
			mustHold(t, h.EndRead(h.BeginRead(), b))
			return h.EndRead(h.BeginRead(), a)
		}},
		"a refused write": {refuse: true, do: func(h *History) error {
			mustHold(t, h.Refuse(h.Begin(b)))
			return h.EndRead(h.BeginRead(), b)
		}},
		"a write that is refused after it was read": {refuse: true, do: func(h *History) error {
			n := h.Begin(b)
			mustHold(t, h.EndRead(h.BeginRead(), b))
			return h.Refuse(n)
		}},
		"a lost note": {refuse: true, do: func(h *History) error { return h.EndRead(h.BeginRead(), gone) }},
		"a deleted note that reappears": {refuse: true, do: func(h *History) error {
			h.Acknowledge(h.Begin(gone))
			return h.EndRead(h.BeginRead(), a)
		}},
		"a deletion that has no answer": {do: func(h *History) error {
			h.Begin(gone)
			return h.EndRead(h.BeginRead(), gone)
		}},
		"another note's content": {refuse: true, do: func(h *History) error { return h.EndRead(h.BeginRead(), c) }},
		"half of one write and half of another": {refuse: true, do: func(h *History) error {
			h.Acknowledge(h.Begin(Value{Title: "one", Content: "one"}))
			h.Begin(Value{Title: "two", Content: "two"})
			return h.EndRead(h.BeginRead(), Value{Title: "two", Content: "one"})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := test.do(written()); (err != nil) != test.refuse {
				t.Errorf("error %v, want one: %t", err, test.refuse)
			}
		})
	}
}

// TestBetween checks which values of a note a backup may contain.
func TestBetween(t *testing.T) {
	h := &History{}
	for _, content := range []string{"0", "1", "2", "3"} {
		h.Acknowledge(h.Begin(Value{Content: content}))
	}
	refused := h.Begin(Value{Content: "refused"})
	if err := h.Refuse(refused); err != nil {
		t.Fatal(err)
	}
	h.Begin(Value{Gone: true})
	for name, tc := range map[string]struct {
		value Value
		want  bool
	}{
		"before": {Value{Content: "0"}, false}, "first": {Value{Content: "1"}, true}, "last acknowledged": {Value{Content: "3"}, true},
		"refused": {Value{Content: "refused"}, false}, "unknown": {Value{Gone: true}, true}, "never written": {Value{Content: "x"}, false},
	} {
		if err := h.between(1, h.last(), tc.value); (err == nil) != tc.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.between(1, 2, Value{Content: "3"}); err == nil {
		t.Error("a write that began afterwards is accepted")
	}
}
