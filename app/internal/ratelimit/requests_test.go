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
		if err := r.Count(context.Background(), "192.0.2.1"); err != nil {
			t.Fatal(err)
		}
	}
	var limited *LimitedError
	if err := r.Count(context.Background(), "192.0.2.1"); !errors.As(err, &limited) {
		t.Errorf("the fourth: %v", err)
	}
	if err := r.Count(context.Background(), "192.0.2.2"); err != nil {
		t.Errorf("another address: %v", err)
	}
}

// TestTokensLeaveOthersTheirLogin: requests of dead sessions take nothing from who has no token yet, at the same address.
func TestTokensLeaveOthersTheirLogin(t *testing.T) {
	r := NewRequests(3)
	for i := range 9 {
		end, err := r.Begin(context.Background(), "u", fmt.Sprint("session ", i), "192.0.2.1")
		if err != nil {
			t.Fatal(err)
		}
		if err := end(Unproved); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Count(context.Background(), "192.0.2.1"); err != nil {
		t.Errorf("a login: %v", err)
	}
}

// TestRequestsOfASession: what a request counts for is known when it is over.
func TestRequestsOfASession(t *testing.T) {
	const limit = 3
	type request struct {
		session, address string
		outcome          Outcome
	}
	for name, tc := range map[string]struct {
		before []request
		// next is asked of user u.
		next    request
		limited bool
	}{
		"as many as are allowed":            {[]request{{"s", "192.0.2.1", Proved}, {"s", "192.0.2.1", Proved}}, request{"s", "192.0.2.1", Proved}, false},
		"one more":                          {[]request{{"s", "192.0.2.1", Proved}, {"s", "192.0.2.1", Proved}, {"s", "192.0.2.1", Proved}}, request{"s", "192.0.2.1", Proved}, true},
		"one more, of another session":      {[]request{{"s", "192.0.2.1", Proved}, {"s", "192.0.2.1", Proved}, {"s", "192.0.2.1", Proved}}, request{"r", "192.0.2.2", Proved}, true},
		"a dead session":                    {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}}, request{"s", "192.0.2.1", Unproved}, true},
		"a live one beside it":              {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}}, request{"r", "192.0.2.1", Proved}, false},
		"the dead one from another address": {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}}, request{"s", "192.0.2.2", Unproved}, false},
		"one that has proved alive since":   {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Proved}, {"r", "192.0.2.1", Unproved}, {"q", "192.0.2.1", Unproved}}, request{"s", "192.0.2.1", Proved}, false},
		"one that is wrong now and then":    {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}, {"r", "192.0.2.1", Unproved}}, request{"s", "192.0.2.1", Proved}, false},
		"what was wrong counts in the end":  {[]request{{"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Unproved}, {"s", "192.0.2.1", Proved}}, request{"s", "192.0.2.1", Proved}, true},
		"a database that was away":          {[]request{{"s", "192.0.2.1", Unknown}, {"s", "192.0.2.1", Unknown}, {"s", "192.0.2.1", Unknown}}, request{"s", "192.0.2.1", Proved}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := NewRequests(limit)
			for _, b := range tc.before {
				end, err := r.Begin(context.Background(), "u", b.session, b.address)
				if err != nil {
					t.Fatalf("%v: %v", b, err)
				}
				if err := end(b.outcome); err != nil {
					t.Fatal(err)
				}
			}
			var limited *LimitedError
			if _, err := r.Begin(context.Background(), "u", tc.next.session, tc.next.address); errors.As(err, &limited) != tc.limited {
				t.Errorf("%v: %v", tc.next, err)
			}
		})
	}
}

// TestRequestsUnderWay: those that have not ended take from what their session may begin, and from nothing else.
func TestRequestsUnderWay(t *testing.T) {
	r := NewRequests(3)
	var ends []func(Outcome) error
	begin := func(session string) error {
		end, err := r.Begin(context.Background(), "u", session, "192.0.2.1")
		if err == nil {
			ends = append(ends, end)
		}
		return err
	}
	for range 3 {
		if err := begin("stolen"); err != nil {
			t.Fatal(err)
		}
	}
	var limited *LimitedError
	if err := begin("stolen"); !errors.As(err, &limited) {
		t.Errorf("the fourth at once: %v", err)
	}
	if err := begin("mine"); err != nil {
		t.Errorf("the user's other session: %v", err)
	}
	for _, end := range ends {
		if err := end(Unknown); err != nil {
			t.Fatal(err)
		}
	}
	if err := begin("stolen"); err != nil {
		t.Errorf("when they are over: %v", err)
	}
	if len(r.underWay) != 1 {
		t.Errorf("%d sessions with requests under way, want 1", len(r.underWay))
	}
}
