package config

import (
	"strings"
	"testing"
)

// TestDrillIdentity checks that a new identity has its recipient, is of the wanted form and is
// valid in a configuration.
func TestDrillIdentity(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		identity, recipient, err := NewDrillIdentity(hybrid)
		if err != nil {
			t.Fatal(err)
		}
		if IsHybridRecipient(recipient) != hybrid {
			t.Errorf("the recipient is %s", recipient)
		}
		validateRecipients(func(field, format string, args ...any) { t.Errorf("%s: "+format, append([]any{field}, args...)...) }, "recipients", []string{recipient}, MaxRecipients)
		parsed, again, err := identity.Parse()
		if err != nil || parsed == nil || again != recipient {
			t.Errorf("parsed: %s, %v", again, err)
		}
		other, _, err := NewDrillIdentity(hybrid)
		if err != nil || other.Identity == identity.Identity {
			t.Errorf("two identities are equal, or %v", err)
		}
	}
	for _, text := range []string{"", "AGE-SECRET-KEY-1QQQ", "age1", strings.Repeat("A", 5000)} {
		if _, _, err := (&DrillIdentity{Identity: text}).Parse(); err == nil || text != "" && strings.Contains(err.Error(), text) {
			t.Errorf("%.20q: %v", text, err)
		}
	}
}

// TestDrillEntry checks the names of entries.
func TestDrillEntry(t *testing.T) {
	if a, b := NewDrillEntry(), NewDrillEntry(); a == b || !IsDrillEntry(a) || len(a) != len(DrillPrefix)+16 {
		t.Errorf("%s and %s", a, b)
	}
	for _, entry := range []string{"", "drill", "drill-", "drill-ABCDEFGHIJKLMNOP", "drill-aaaaaaaaaaaaaaaaa", "pepper-aaaaaaaaaaaaaaaa", "x/drill-aaaaaaaaaaaaaaaa", "drill-aaaaaaaaaaaaaaa1"} {
		if IsDrillEntry(entry) {
			t.Errorf("%q is accepted", entry)
		}
	}
}
