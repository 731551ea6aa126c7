package clientaddress

import (
	"strings"
	"testing"
)

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7":               "192.0.2.7",
		"::ffff:192.0.2.7":        "192.0.2.7",
		"2001:db8:1:2:3:4:5:6":    "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1":    "2001:db8:1:2::/64",
		"fe80::1%eth0":            "fe80::/64",
		"":                        "unknown",
		"not an address":          "unknown",
		"192.0.2.7, 198.51.100.1": "unknown",
		"::ffff:192.0.2.7%eth0":   "192.0.2.7",
	} {
		if got := Network(address); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}

func FuzzNetwork(f *testing.F) {
	f.Add("2001:db8::1")
	f.Fuzz(func(t *testing.T, address string) {
		if got := Network(address); got == "" || len(got) > 64 || strings.Contains(got, "%") {
			t.Errorf("%q: %q", address, got)
		}
	})
}
