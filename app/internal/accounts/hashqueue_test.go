package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// order makes requests join a queue with one slot, and returns the order in which they got it.
func order(t *testing.T, requests []request) []string {
	t.Helper()
	q := newHashQueue(1)
	first, err := q.join(forLogin, "the first")
	if err != nil {
		t.Fatal(err)
	}
	<-first.admitted
	leave := func() { q.leave(forLogin, first) }
	waiting := map[*hashWaiter]request{}
	for _, r := range requests {
		w, err := q.join(r.purpose, r.parties...)
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		waiting[w] = r
	}
	var got []string
	for len(waiting) > 0 {
		leave()
		for w, r := range waiting {
			select {
			case <-w.admitted:
				got = append(got, r.parties[0])
				leave = func() { q.leave(r.purpose, w) }
				delete(waiting, w)
			default:
			}
		}
		if len(got)+len(waiting) != len(requests) {
			t.Fatalf("after %v, %d wait of %d", got, len(waiting), len(requests))
		}
	}
	leave()
	if q.free != 1 || len(q.byPurpose[forLogin].hashing) != 0 {
		t.Errorf("in the end %d slots are free, and %v have one", q.free, q.byPurpose[forLogin].hashing)
	}
	return got
}

// TestHashQueueIsFair: clients take turns, and so do purposes, whatever the order and number of
// their requests.
func TestHashQueueIsFair(t *testing.T) {
	login := func(parties ...string) request { return request{purpose: forLogin, parties: parties} }
	registration := func(client string) request { return request{purpose: forRegistration, parties: []string{client}} }
	again := func(user string) request { return request{purpose: forReauthentication, parties: []string{user}} }
	for name, tc := range map[string]struct {
		requests []request
		want     []string
	}{
		"one client in order of arrival": {
			requests: []request{login("a"), login("a"), login("a")}, want: []string{"a", "a", "a"},
		},
		"clients take turns": {
			requests: []request{login("a"), login("a"), login("a"), login("b"), login("b"), login("c")}, want: []string{"a", "b", "c", "a", "b", "a"},
		},
		"one account at many addresses counts as one client": {
			requests: []request{login("a", "u"), login("b", "u"), login("c", "u"), login("d", "v")}, want: []string{"a", "d", "b", "c"},
		},
		"purposes take turns": {
			requests: []request{registration("x"), registration("y"), registration("z"), again("u"), login("a")}, want: []string{"x", "u", "a", "y", "z"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := order(t, tc.requests); !slices.Equal(got, tc.want) {
				t.Errorf("order %v, want %v", got, tc.want)
			}
		})
	}
}

// TestHashQueueIsBounded: each client and each purpose has a bound. A full queue does not close
// others.
func TestHashQueueIsBounded(t *testing.T) {
	q := newHashQueue(1)
	fill := func(p purpose, client string, want int) {
		t.Helper()
		for i := range want {
			if _, err := q.join(p, client); err != nil {
				t.Fatalf("request %d of %s: %v", i, client, err)
			}
		}
		if _, err := q.join(p, client); !errors.Is(err, ErrBusy) {
			t.Errorf("one more of %s: %v, want %v", client, err, ErrBusy)
		}
	}
	fill(forRegistration, "first", maxPartyWaiting+1) // one of them has the slot
	for i := range maxWaiting/maxPartyWaiting - 1 {
		fill(forRegistration, fmt.Sprintf("client %d", i), maxPartyWaiting)
	}
	if _, err := q.join(forRegistration, "last"); !errors.Is(err, ErrBusy) {
		t.Errorf("one more of all: %v, want %v", err, ErrBusy)
	}
	fill(forLogin, "first", maxPartyWaiting)
}

// TestPartyHoldsFewPlaces: a party gets no more slots when there are many.
func TestPartyHoldsFewPlaces(t *testing.T) {
	q := newHashQueue(8)
	admitted := func(client string) bool {
		w, err := q.join(forLogin, client)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.admitted:
			return true
		default:
			return false
		}
	}
	for i := range maxPartyHashing {
		if !admitted("a") {
			t.Fatalf("slot %d is not given", i)
		}
	}
	if admitted("a") {
		t.Error("one client has a slot too many")
	}
	if !admitted("b") {
		t.Error("another client has no slot")
	}
}

// TestLeavingTheQueue: a client that disconnects keeps no slot, whether it had one or not.
func TestLeavingTheQueue(t *testing.T) {
	q := newHashQueue(1)
	leave, err := q.enter(context.Background(), forLogin, "a")
	if err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := q.enter(ended, forLogin, "b"); !errors.Is(err, context.Canceled) {
		t.Errorf("without a slot: %v", err)
	}
	if len(q.byPurpose[forLogin].waiting) != 0 {
		t.Error("it still waits")
	}
	w, err := q.join(forLogin, "c")
	if err != nil {
		t.Fatal(err)
	}
	leave()
	<-w.admitted
	q.leave(forLogin, w) // as soon as it has its slot
	if q.free != 1 || len(q.byPurpose[forLogin].hashing) != 0 {
		t.Errorf("%d slots are free, and %v have one", q.free, q.byPurpose[forLogin].hashing)
	}
}
