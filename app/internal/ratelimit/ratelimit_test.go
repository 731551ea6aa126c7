package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ulule/limiter/v3/drivers/store/memory"
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

func TestLogins(t *testing.T) {
	ctx := context.Background()
	l := NewLogins(memory.NewStore(), 2)
	limited := func(address, username string) bool {
		err := l.Check(ctx, address, username)
		var wait *LimitedError
		if err != nil && (!errors.As(err, &wait) || wait.RetryAfter < time.Second) {
			t.Fatalf("error %v", err)
		}
		return err != nil
	}
	for i := range 2 {
		if limited("192.0.2.1", "alice") {
			t.Fatalf("limited after %d failures", i)
		}
		if err := l.Failed(ctx, "192.0.2.1", "alice"); err != nil {
			t.Fatal(err)
		}
	}
	if !limited("192.0.2.1", "bob") {
		t.Error("the address is not limited")
	}
	if limited("192.0.2.2", "alice") {
		t.Error("the user is limited by another's address")
	}
	for i := range 10 {
		if err := l.Failed(ctx, "198.51.100."+string(rune('0'+i)), " ALICE"); err != nil {
			t.Fatal(err)
		}
	}
	if !limited("192.0.2.9", "alice") {
		t.Error("the username is not limited over many addresses")
	}
}

// TestCodesOfAllAddresses: no number of addresses helps to try codes.
func TestCodesOfAllAddresses(t *testing.T) {
	ctx := context.Background()
	logins := NewLogins(memory.NewStore(), 5)
	var limited *LimitedError
	for i := range codesPerPeriod {
		if err := logins.TakeCode(ctx, fmt.Sprintf("192.0.2.%d", i), "u"); err != nil {
			t.Fatalf("code %d: %v", i, err)
		}
	}
	if err := logins.TakeCode(ctx, "198.51.100.1", "u"); !errors.As(err, &limited) || limited.RetryAfter < codesPeriod/2 {
		t.Errorf("one more: %v", err)
	}
	if err := logins.TakeCode(ctx, "198.51.100.1", "v"); err != nil {
		t.Errorf("another user: %v", err)
	}
	if err := logins.CodeAccepted(ctx, "198.51.100.1", "u"); err != nil {
		t.Fatal(err)
	}
	if err := logins.TakeCode(ctx, "198.51.100.1", "u"); err != nil {
		t.Errorf("after a recovery code: %v", err)
	}
}
