package truncate

import "testing"

func TestBytes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text  string
		limit int
		want  string
	}{
		"empty":                   {text: "", limit: 3, want: ""},
		"shorter":                 {text: "ab", limit: 3, want: "ab"},
		"as long":                 {text: "abc", limit: 3, want: "abc"},
		"longer":                  {text: "abcd", limit: 3, want: "abc"},
		"a rune fits":             {text: "aéb", limit: 3, want: "aé"},
		"a rune does not fit":     {text: "abé", limit: 3, want: "ab"},
		"a long rune does not":    {text: "a😀", limit: 4, want: "a"},
		"nothing fits":            {text: "😀", limit: 3, want: ""},
		"not valid, and no start": {text: "\x80\x80\x80", limit: 2, want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Bytes(tc.text, tc.limit); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
