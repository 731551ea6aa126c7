package cause

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/securenotes/securenotes/app/config"
)

func TestReadTermination(t *testing.T) {
	t.Parallel()
	long := `{"reason":"Failed","message":"` + strings.Repeat("ä", 900) + `"}`
	for name, tc := range map[string]struct {
		text string
		ok   bool
	}{
		"good":                   {text: `{"reason":"Failed","message":"a\nb"}`, ok: true},
		"long":                   {text: long, ok: true},
		"not JSON":               {text: `Failed`},
		"reason in words":        {text: `{"reason":"it failed","message":"x"}`},
		"reason too long":        {text: `{"reason":"` + strings.Repeat("A", 70) + `","message":"x"}`},
		"longer than is written": {text: `{"reason":"Failed","message":"` + strings.Repeat("x", 5000) + `"}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, ok := ReadTermination(tc.text)
			if ok != tc.ok || strings.ContainsAny(got.Message, "\n\t") || len(got.Message) > maxMessage+len("…") {
				t.Errorf("got %t and %d bytes %q, want %t and at most %d bytes on one line", ok, len(got.Message), got.Message, tc.ok, maxMessage+len("…"))
			}
		})
	}
}

// FuzzReadTermination checks that what becomes a condition is one line of valid text in bounded
// size.
func FuzzReadTermination(f *testing.F) {
	f.Add(`{"reason":"Failed","message":"a\nb"}`)
	f.Add("{\"reason\":\"Failed\",\"message\":\"" + strings.Repeat("ä", 500) + "\xff\"}")
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := ReadTermination(text)
		if !ok {
			if got != (config.Termination{}) {
				t.Errorf("refused, and yet %+v", got)
			}
			return
		}
		if !reasonPattern.MatchString(got.Reason) || len(got.Message) > maxMessage+len("…") ||
			strings.ContainsFunc(got.Message, unicode.IsControl) || !utf8.ValidString(got.Message) {
			t.Errorf("got %+v, want valid text of bounded length without control characters", got)
		}
	})
}
