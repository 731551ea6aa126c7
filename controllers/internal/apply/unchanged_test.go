package apply

import "testing"

func TestHolds(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for name, tc := range map[string]struct {
		whole, intent any
		want          bool
	}{
		"the same":                         {m{"a": int64(1)}, m{"a": int64(1)}, true},
		"a field of another":               {m{"a": int64(1), "b": "theirs"}, m{"a": int64(1)}, true},
		"another value":                    {m{"a": int64(2)}, m{"a": int64(1)}, false},
		"a field that is missing":          {m{}, m{"a": int64(1)}, false},
		"an empty field that is not kept":  {m{}, m{"a": m{}, "b": []any{}}, true},
		"a default within an element":      {m{"a": []any{m{"n": "x", "p": "TCP"}}}, m{"a": []any{m{"n": "x"}}}, true},
		"one element more":                 {m{"a": []any{"x", "y"}}, m{"a": []any{"x"}}, false},
		"one element less":                 {m{"a": []any{"x"}}, m{"a": []any{"x", "y"}}, false},
		"the elements in another order":    {m{"a": []any{"y", "x"}}, m{"a": []any{"x", "y"}}, false},
		"a list in the place of a map":     {m{"a": []any{}}, m{"a": m{"b": "c"}}, false},
		"a number that is another's float": {m{"a": 1.5}, m{"a": int64(1)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := holds(tc.whole, tc.intent); got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}
