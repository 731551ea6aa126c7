package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ulule/limiter/v3/drivers/store/memory"
)

func newLogins(failures, registrations int) *Logins {
	return NewLogins(memory.NewStore(), Rates{FailedLogins: failures, Registrations: registrations})
}

// isLimited reports whether an error is a *LimitedError, and fails the test on any other error.
func isLimited(t *testing.T, err error) bool {
	t.Helper()
	limited, ok := errors.AsType[*LimitedError](err)
	if err != nil && (!ok || limited.RetryAfter < time.Second) {
		t.Fatal(err)
	}
	return err != nil
}

func TestLogins(t *testing.T) {
	ctx := context.Background()
	l := newLogins(2, 1)
	take := func(address, username string) bool {
		_, err := l.TakeLogin(ctx, address, username)
		return !isLimited(t, err)
	}
	check := func(address, username string) bool { return !isLimited(t, l.CheckLogin(ctx, address, username)) }
	for i := range 2 {
		if !check("192.0.2.1", "alice") || !take("192.0.2.1", "alice") {
			t.Fatalf("limited after %d failures", i)
		}
	}
	if check("192.0.2.1", "bob") || take("192.0.2.1", "bob") {
		t.Error("the address is not limited")
	}
	if !check("192.0.2.2", "alice") {
		t.Error("the user is limited by another's address")
	}
	for i := range 10 {
		if !take(fmt.Sprintf("198.51.100.%d", i), "alice") {
			t.Fatalf("limited after %d failures from other addresses", i)
		}
	}
	if check("192.0.2.9", "alice") || take("192.0.2.9", "alice") {
		t.Error("the username is not limited over many addresses")
	}
}

// TestLoginsAtOnce: of parallel logins, no more are checked than the limit allows, and logins that
// have not failed do not count.
func TestLoginsAtOnce(t *testing.T) {
	ctx := context.Background()
	const limit = 5
	l := newLogins(limit, 1)
	var undos []func(context.Context) error
	for range 3 * limit {
		undo, err := l.TakeLogin(ctx, "192.0.2.1", "alice")
		if !isLimited(t, err) {
			undos = append(undos, undo)
		}
	}
	if len(undos) != limit {
		t.Fatalf("%d logins were checked, want %d", len(undos), limit)
	}
	for _, undo := range undos {
		if err := undo(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for i := range limit {
		if _, err := l.TakeLogin(ctx, "192.0.2.1", "alice"); isLimited(t, err) {
			t.Errorf("login %d is limited after all counts were undone", i)
		}
	}
}

// TestLateTicketIsNotGivenBack: undoing a count after its period must not allow one more in the
// next.
func TestLateTicketIsNotGivenBack(t *testing.T) {
	ctx := context.Background()
	l := newLogins(1, 1)
	undo, err := l.TakeLogin(ctx, "192.0.2.1", "alice")
	if err != nil {
		t.Fatal(err)
	}
	l.now = func() time.Time { return time.Now().Add(time.Minute) }
	if err := undo(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.CheckLogin(ctx, "192.0.2.1", "alice"); !isLimited(t, err) {
		t.Error("the count was undone")
	}
}

func TestRegistrations(t *testing.T) {
	ctx := context.Background()
	l := newLogins(1, 2)
	for _, tc := range []struct {
		address string
		undo    bool
		limited bool
	}{
		{address: "192.0.2.1"},
		{address: "192.0.2.1", undo: true}, // created no account
		{address: "192.0.2.1"},
		{address: "192.0.2.1", limited: true},
		{address: "192.0.2.2"},
	} {
		undo, err := l.TakeRegistration(ctx, tc.address)
		if got := isLimited(t, err); got != tc.limited {
			t.Fatalf("%+v: limited %v", tc, got)
		}
		if tc.undo {
			if err := undo(ctx); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestCodesOfAProposal: each proposal has its own count, and does not use up the user's codes.
func TestCodesOfAProposal(t *testing.T) {
	ctx := context.Background()
	l := newLogins(1, 1)
	for i := range codesPerHour {
		if err := l.TakeProposalCode(ctx, "p1"); err != nil {
			t.Fatalf("code %d: %v", i, err)
		}
	}
	if err := l.TakeProposalCode(ctx, "p1"); !isLimited(t, err) {
		t.Error("one more is not limited")
	}
	if err := l.TakeProposalCode(ctx, "p2"); err != nil {
		t.Errorf("the next proposal: %v", err)
	}
	if err := l.TakeCode(ctx, "192.0.2.1", "u"); err != nil {
		t.Errorf("the user's codes: %v", err)
	}
}

// TestCodesOfAllAddresses: an attacker cannot try more codes by using more addresses.
func TestCodesOfAllAddresses(t *testing.T) {
	ctx := context.Background()
	logins := newLogins(5, 1)
	for i := range codesPerPeriod {
		if err := logins.TakeCode(ctx, fmt.Sprintf("192.0.2.%d", i), "u"); err != nil {
			t.Fatalf("code %d: %v", i, err)
		}
	}
	err := logins.TakeCode(ctx, "198.51.100.1", "u")
	if limited, ok := errors.AsType[*LimitedError](err); !ok || limited.RetryAfter < codesPeriod/2 {
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
