package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestRequestsOfAnAddress(t *testing.T) {
	r := NewRequests(3)
	for range 3 {
		if _, err := r.Count(context.Background(), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Count(context.Background(), "192.0.2.1"); !isLimited(t, err) {
		t.Error("the fourth is allowed")
	}
	if _, err := r.Count(context.Background(), "192.0.2.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// TestRequestsOfAnAddressAtOnce: requests without a token and requests of unproved sessions have
// separate bounds, and do not stop proved sessions.
func TestRequestsOfAnAddressAtOnce(t *testing.T) {
	ctx := context.Background()
	r := NewRequests(10_000)
	done(t, r, "alive", "192.0.2.1", Proved)
	var ends []func()
	for range maxAddressInFlight {
		end, err := r.Count(ctx, "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, end)
	}
	if _, err := r.Count(ctx, "192.0.2.1"); !errors.Is(err, ErrTooManyInFlight) {
		t.Errorf("no token: %v", err)
	}
	for i := range maxTokensInFlight {
		if _, err := begin(r, fmt.Sprint("new ", i), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := begin(r, "another", "192.0.2.1"); !errors.Is(err, ErrTooManyInFlight) {
		t.Errorf("an unproved session: %v", err)
	}
	if _, err := begin(r, "alive", "192.0.2.1"); err != nil {
		t.Errorf("a proved session: %v", err)
	}
	if _, err := r.Begin(ctx, Request{User: "u", Session: "another", Address: "192.0.2.1", Security: true}); err != nil {
		t.Errorf("a security call: %v", err)
	}
	for _, end := range ends {
		end()
	}
	if _, err := r.Count(ctx, "192.0.2.1"); err != nil {
		t.Errorf("after they have ended: %v", err)
	}
}

// begin begins a request of user u.
func begin(r *Requests, session, address string) (*Begun, error) {
	return r.Begin(context.Background(), Request{User: "u", Session: session, Address: address})
}

// done makes a request of user u.
func done(t *testing.T, r *Requests, session, address string, o Outcome) {
	t.Helper()
	b, err := begin(r, session, address)
	if err == nil {
		err = b.End(o)
	}
	if err != nil {
		t.Fatalf("session %s from %s: %v", session, address, err)
	}
}

// TestTokensLeaveOthersTheirLogin: requests of ended sessions use no budget of clients at the same
// address that have no token yet.
func TestTokensLeaveOthersTheirLogin(t *testing.T) {
	r := NewRequests(3)
	for i := range 9 {
		done(t, r, fmt.Sprint("session ", i), "192.0.2.1", Unproved)
	}
	if _, err := r.Count(context.Background(), "192.0.2.1"); err != nil {
		t.Errorf("a login: %v", err)
	}
}

// TestRequestsOfASession: a request counts for its user or for its address once it has ended.
func TestRequestsOfASession(t *testing.T) {
	// A user may have four requests a minute, and a session three of them.
	const limit = 4
	type request struct {
		session, address string
		outcome          Outcome
	}
	const here, there = "192.0.2.1", "192.0.2.2"
	dead := request{"s", here, Unproved}
	for name, tc := range map[string]struct {
		before []request
		// next is a request of user u.
		next    request
		limited bool
	}{
		"as many as are allowed":             {before: []request{{"s", here, Proved}, {"s", here, Proved}}, next: request{"s", here, Proved}},
		"one more of the session":            {before: []request{{"s", here, Proved}, {"s", here, Proved}, {"s", here, Proved}}, next: request{"s", here, Proved}, limited: true},
		"another session of the user":        {before: []request{{"s", here, Proved}, {"s", here, Proved}, {"s", here, Proved}}, next: request{"r", there, Proved}},
		"one more of the user":               {before: []request{{"s", here, Proved}, {"s", here, Proved}, {"s", here, Proved}, {"r", here, Proved}}, next: request{"r", there, Proved}, limited: true},
		"an ended session":                   {before: []request{dead, dead, dead, dead}, next: request{"s", here, Unproved}, limited: true},
		"a live one at the same address":     {before: []request{dead, dead, dead, dead}, next: request{"r", here, Proved}},
		"the ended one from another address": {before: []request{dead, dead, dead, dead}, next: request{"s", there, Unproved}},
		"one that was proved live since":     {before: []request{dead, {"s", here, Proved}, {"r", here, Unproved}, {"q", here, Unproved}}, next: request{"s", here, Proved}},
		"one that is wrong now and then":     {before: []request{dead, dead, {"r", here, Unproved}}, next: request{"s", here, Proved}},
		"unproved requests count later":      {before: []request{dead, dead, {"s", here, Proved}}, next: request{"s", here, Proved}, limited: true},
		"an unavailable database":            {before: []request{{"s", here, Unknown}, {"s", here, Unknown}, {"s", here, Unknown}}, next: request{"s", here, Proved}},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRequests(limit)
			for _, b := range tc.before {
				done(t, r, b.session, b.address, b.outcome)
			}
			if _, err := begin(r, tc.next.session, tc.next.address); isLimited(t, err) != tc.limited {
				t.Errorf("%v: %v", tc.next, err)
			}
		})
	}
}

// TestRequestsUnderWay: requests in flight use the budget of their session, and no other.
func TestRequestsUnderWay(t *testing.T) {
	r := NewRequests(4)
	var all []*Begun
	for range 3 {
		b, err := begin(r, "stolen", "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	if _, err := begin(r, "stolen", "192.0.2.1"); !isLimited(t, err) {
		t.Error("the fourth in flight is allowed")
	}
	mine, err := begin(r, "mine", "192.0.2.1")
	if err != nil {
		t.Fatalf("the user's other session: %v", err)
	}
	for _, b := range append(all, mine) {
		if err := b.End(Unknown); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.inFlight) != 0 {
		t.Errorf("%d keys are in flight after all requests have ended", len(r.inFlight))
	}
	if _, err := begin(r, "stolen", "192.0.2.1"); err != nil {
		t.Errorf("after they have ended: %v", err)
	}
}

// TestRequestsAtOnce: there is one bound for all proved sessions of a user, and one for each
// session. Unproved sessions do not use the user's.
func TestRequestsAtOnce(t *testing.T) {
	perSession := int(sessionShare(maxUserInFlight))
	fill := func(r *Requests, session string) (n int) {
		for {
			if _, err := begin(r, session, "192.0.2.1"); err != nil {
				if !errors.Is(err, ErrTooManyInFlight) {
					t.Fatal(err)
				}
				return n
			}
			n++
		}
	}
	r := NewRequests(10_000)
	if got := fill(r, "dead"); got != perSession {
		t.Errorf("%d requests of an unproved session are in flight, want %d", got, perSession)
	}
	for _, session := range []string{"a", "b", "c"} {
		done(t, r, session, "192.0.2.1", Proved)
	}
	if got := fill(r, "a"); got != perSession {
		t.Errorf("%d requests of one session are in flight, want %d", got, perSession)
	}
	if got, want := fill(r, "b"), maxUserInFlight-perSession; got != want {
		t.Errorf("%d requests of the next session are in flight, want %d", got, want)
	}
	if got := fill(r, "c"); got != 0 {
		t.Errorf("%d requests of one more session are in flight, want none", got)
	}
}

// TestSecurityCallsHaveTheirOwnBudget: other requests of the user's sessions do not use it.
func TestSecurityCallsHaveTheirOwnBudget(t *testing.T) {
	r := NewRequests(4)
	for range 3 {
		done(t, r, "stolen", "192.0.2.1", Proved)
	}
	done(t, r, "mine", "192.0.2.2", Proved)
	if _, err := begin(r, "mine", "192.0.2.2"); !isLimited(t, err) {
		t.Fatal("the user has requests left")
	}
	security := Request{User: "u", Session: "mine", Address: "192.0.2.2", Security: true}
	for range securityPerMinute {
		b, err := r.Begin(context.Background(), security)
		if err == nil {
			err = b.End(Proved)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Begin(context.Background(), security); !isLimited(t, err) {
		t.Error("security calls have no limit")
	}
	security.Session = "another"
	for range maxSecurityInFlight {
		if _, err := r.Begin(context.Background(), security); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Begin(context.Background(), security); !errors.Is(err, ErrTooManyInFlight) {
		t.Errorf("one more in flight: %v", err)
	}
}
