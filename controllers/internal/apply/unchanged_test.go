package apply

import "testing"

func TestHolds(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	for name, tc := range map[string]struct {
		whole, intent any
		want          bool
	}{
		"the same":                         {whole: m{"a": int64(1)}, intent: m{"a": int64(1)}, want: true},
		"a field of another":               {whole: m{"a": int64(1), "b": "theirs"}, intent: m{"a": int64(1)}, want: true},
		"another value":                    {whole: m{"a": int64(2)}, intent: m{"a": int64(1)}, want: false},
		"a field that is missing":          {whole: m{}, intent: m{"a": int64(1)}, want: false},
		"an empty field that is not kept":  {whole: m{}, intent: m{"a": m{}, "b": []any{}}, want: true},
		"a default within an element":      {whole: m{"a": []any{m{"n": "x", "p": "TCP"}}}, intent: m{"a": []any{m{"n": "x"}}}, want: true},
		"one element more":                 {whole: m{"a": []any{"x", "y"}}, intent: m{"a": []any{"x"}}, want: false},
		"one element less":                 {whole: m{"a": []any{"x"}}, intent: m{"a": []any{"x", "y"}}, want: false},
		"the elements in another order":    {whole: m{"a": []any{"y", "x"}}, intent: m{"a": []any{"x", "y"}}, want: false},
		"a list in the place of a map":     {whole: m{"a": []any{}}, intent: m{"a": m{"b": "c"}}, want: false},
		"a number that is another's float": {whole: m{"a": 1.5}, intent: m{"a": int64(1)}, want: false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := holds(tc.whole, tc.intent); got != tc.want {
				t.Errorf("got %t, want %t", got, tc.want)
			}
		})
	}
}
