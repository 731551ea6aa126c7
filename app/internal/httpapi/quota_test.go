package httpapi_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/notes"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestQuotaOfNotes: a user who has the maximum number of notes can do everything except create
// another one.
func TestQuotaOfNotes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newServiceWithin(t, open, config.Quotas{Accounts: 10, Notes: 3, Bytes: 1 << 20}, true)
		alice, bob := s.signIn(t, "alice"), s.signIn(t, "bob")
		create := func(token, key, content string) answer {
			return s.call(t, "POST", "/api/notes", token, `{"content":"`+content+`"}`, "Idempotency-Key", key)
		}
		var last answer
		for i := range 3 {
			last = create(alice, fmt.Sprint("k", i), "note")
			last.want(t, "within the quota", 201, "")
		}
		refusal := "You have 3 notes, and the limit is 3; delete some first"
		s.call(t, "POST", "/api/notes", alice, `{"content":"x"}`).want(t, "one more", 403, refusal)
		create(alice, "k3", "note").want(t, "one more with a key", 403, refusal)
		if a := create(alice, "k2", "note"); a.status != 201 || a.body["id"] != last.body["id"] || a.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("the last one again: %d %v, want %v", a.status, a.body, last.body)
		}
		create(alice, "k2", "another").want(t, "its key for another note", 422, "")
		path := last.header.Get("Location")
		s.call(t, "PUT", path, alice, `{"content":"a longer note"}`).want(t, "change", 200, "")
		create(bob, "k0", "note").want(t, "another user", 201, "")
		s.call(t, "DELETE", path, alice, "").want(t, "delete", 200, "")
		create(alice, "k3", "note").want(t, "after a deletion", 201, "")
		create(alice, "k4", "note").want(t, "at the quota again", 403, refusal)
		s.call(t, "POST", "/api/auth/logout", alice, "").want(t, "logout", 200, "")
		create(alice, "k5", "note").want(t, "with an ended session", 401, "")
	})
}

// TestQuotaOfBytes: a new or longer note that does not fit is refused. An update that makes a note
// no longer is not.
func TestQuotaOfBytes(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newServiceWithin(t, open, config.Quotas{Accounts: 10, Notes: 100, Bytes: 350_000}, true)
		token := s.signIn(t, "alice")
		note := func(size int) string { return `{"content":"` + strings.Repeat("x", size) + `"}` }
		mustRefuse := func(what string, a answer) {
			t.Helper()
			message, _ := a.body["error"].(string)
			if a.status != http.StatusForbidden || !strings.HasPrefix(message, "Your notes and idempotency keys take ") {
				t.Errorf("%s: %d %v", what, a.status, a.body)
			}
		}
		var path string
		for range 3 {
			a := s.call(t, "POST", "/api/notes", token, note(99_000))
			a.want(t, "within the quota", 201, "")
			path = a.header.Get("Location")
		}
		mustRefuse("one more", s.call(t, "POST", "/api/notes", token, note(99_000)))
		s.call(t, "PUT", path, token, note(100_000)).want(t, "a note that grows and fits", 200, "")
		s.call(t, "POST", "/api/notes", token, note(50_000)).want(t, "a smaller note", 201, "")
		mustRefuse("a note that grows too much", s.call(t, "PUT", path, token, `{"content":"`+strings.Repeat("é", 100_000)+`"}`))
		s.call(t, "PUT", path, token, note(100_000)).want(t, "a note that stays as large", 200, "")
		s.call(t, "PUT", path, token, note(10)).want(t, "a note that shrinks", 200, "")
		s.call(t, "POST", "/api/notes", token, note(90_000)).want(t, "after the previous one was removed", 201, "")
		s.call(t, "DELETE", path, token, "").want(t, "delete", 200, "")
	})
}

// TestQuotaOfIdempotencyKeys: the keys of deleted notes count as bytes, so that their number is
// bounded. A retry needs no additional quota.
func TestQuotaOfIdempotencyKeys(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newServiceWithin(t, open, config.Quotas{Accounts: 10, Notes: 100, Bytes: 3*notes.IdempotencyKeyBytes + 100}, true)
		token := s.signIn(t, "alice")
		create := func(key string) answer {
			return s.call(t, "POST", "/api/notes", token, `{"content":"x"}`, "Idempotency-Key", key)
		}
		for i := range 3 {
			a := create(fmt.Sprint("k", i))
			a.want(t, "within the quota", 201, "")
			s.call(t, "DELETE", a.header.Get("Location"), token, "").want(t, "delete", 200, "")
		}
		a := create("k3")
		if message, _ := a.body["error"].(string); a.status != 403 || !strings.HasPrefix(message, "Your notes and idempotency keys take 1536 bytes, ") {
			t.Errorf("one more key: %d %v", a.status, a.body)
		}
		if a := create("k0"); a.status != 201 || a.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("a key again: %d %v", a.status, a.body)
		}
		s.call(t, "POST", "/api/notes", token, `{"content":"x"}`).want(t, "without a key", 201, "")
	})
}

// TestQuotaHoldsForConcurrentRequests: of parallel creations, no more are stored than the quota
// allows.
func TestQuotaHoldsForConcurrentRequests(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newServiceWithin(t, open, config.Quotas{Accounts: 10, Notes: 5, Bytes: 1 << 20}, true)
		token := s.signIn(t, "alice")
		var requests sync.WaitGroup
		for range 20 {
			requests.Go(func() {
				if a := s.call(t, "POST", "/api/notes", token, `{"content":"x"}`); a.status != 201 && a.status != 403 {
					t.Errorf("create: %d %v", a.status, a.body)
				}
			})
		}
		requests.Wait()
		if list := s.call(t, "GET", "/api/notes", token, "").body["notes"].([]any); len(list) != 5 {
			t.Errorf("%d notes, want 5", len(list))
		}
	})
}

// TestAccountsAreBounded: no more accounts are created than allowed, until one is deleted.
func TestAccountsAreBounded(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newServiceWithin(t, open, config.Quotas{Accounts: 4, Notes: 5, Bytes: 1 << 20}, true)
		token := s.signIn(t, "alice")
		register := func(username string) answer {
			return s.call(t, "POST", "/api/auth/register", "", `{"username":"`+username+`","password":"correct horse battery"}`)
		}
		var mu sync.Mutex
		statuses := map[int]int{}
		var requests sync.WaitGroup
		for i := range 12 {
			requests.Go(func() {
				a := register(fmt.Sprint("user", i))
				mu.Lock()
				defer mu.Unlock()
				statuses[a.status]++
			})
		}
		requests.Wait()
		if statuses[201] != 3 || statuses[403] != 9 {
			t.Errorf("registrations had %v, want 3 of 201 and 9 of 403", statuses)
		}
		register("late").want(t, "one more", 403, "The maximum number of accounts is reached")
		register("alice").want(t, "a name that is taken", 409, "")
		s.call(t, "DELETE", "/api/account", token, `{"password":"correct horse battery"}`).want(t, "delete", 200, "")
		a := register("late")
		for a.status == 403 { // until the next count
			a = register("late")
		}
		a.want(t, "after a deletion", 201, "")
	})
}
