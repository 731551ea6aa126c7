package httpapi_test

import (
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLoginFloodLeavesReads: while all slots for hashing passwords are in use and more logins wait,
// signed-in users read and write as usual. Logins that get no slot are answered 503.
func TestLoginFloodLeavesReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)

		// A login that has a slot is held where it is counted.
		places := runtime.GOMAXPROCS(0)
		hashing, release := make(chan struct{}, places), make(chan struct{})
		s.limits.taking = func() {
			hashing <- struct{}{}
			<-release
		}
		login := func(i int) answer {
			body := fmt.Sprintf(`{"username":"nobody-%d","password":"correct horse battery"}`, i)
			return s.call(t, "POST", "/api/auth/login", "", body, "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
		}
		var held, waiting sync.WaitGroup
		for i := range places {
			held.Go(func() { login(i).want(t, "a login that has a slot", 401, "Invalid credentials") })
		}
		for range places {
			<-hashing
		}
		for i := range 8 {
			waiting.Go(func() {
				a := login(places + i)
				if a.want(t, "a login without a slot", 503, "Too many logins in progress, try again later"); a.header.Get("Retry-After") == "" {
					t.Error("503 without Retry-After")
				}
			})
		}
		for range 50 {
			s.call(t, "GET", "/api/notes/"+id, token, "").want(t, "a read during the flood", 200, "")
		}
		s.call(t, "GET", "/api/notes", token, "").want(t, "a list during the flood", 200, "")
		s.call(t, "POST", "/api/notes", token, `{"content":"another"}`).want(t, "a write during the flood", 201, "")
		waiting.Wait()
		if n := len(hashing); n != 0 {
			t.Errorf("%d more logins were hashed than there are places", n)
		}
		close(release)
		held.Wait()
		s.limits.taking = nil
		s.login(t, "alice", "correct horse battery").want(t, "a login afterwards", 200, "")
	})
}

// TestRegistrationFloodLeavesLogins: while registrations from one address fill the slots for
// hashing and wait for more, others log in.
func TestRegistrationFloodLeavesLogins(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		hashing, release := make(chan struct{}), make(chan struct{})
		s.limits.registering = func() {
			hashing <- struct{}{}
			<-release
		}
		var flood sync.WaitGroup
		var created, refused atomic.Int32
		const registrations = 40
		for i := range registrations {
			flood.Go(func() {
				body := fmt.Sprintf(`{"username":"nobody-%d","password":"correct horse battery"}`, i)
				switch a := s.call(t, "POST", "/api/auth/register", "", body, "X-Forwarded-For", "192.0.2.1"); a.status {
				case http.StatusCreated:
					created.Add(1)
				case http.StatusServiceUnavailable, http.StatusTooManyRequests:
					refused.Add(1)
				default:
					t.Errorf("a registration of the flood: %d %v", a.status, a.body)
				}
			})
		}
		held := min(2, runtime.GOMAXPROCS(0)) // as many as one client may hash in parallel
		for range held {
			<-hashing
		}
		for refused.Load() < registrations-16-int32(held) { // all that may not wait
			runtime.Gosched()
		}
		login := make(chan answer)
		go func() { login <- s.loginWith(t, "alice", "correct horse battery", "", "192.0.2.2") }()
		// Once the login waits, it gets the next free slot. Until then registrations get some
		// slots, but far fewer than the 16 that waited before it.
		release <- struct{}{}
		for overtook := 0; ; overtook++ {
			select {
			case a := <-login:
				a.want(t, "a login during the flood", 200, "")
			case <-hashing:
				release <- struct{}{}
				continue
			}
			if overtook > 8 {
				t.Errorf("%d registrations of the flood got a place before the login", overtook)
			}
			break
		}
		go func() {
			for range hashing { // the others continue
				continue
			}
		}()
		close(release)
		flood.Wait()
		close(hashing)
		// Registrations that still waited succeeded in time, or were told to retry.
		if got := created.Load() + refused.Load(); got != registrations || created.Load() > 20 {
			t.Errorf("%d registrations created an account and %d were refused", created.Load(), refused.Load())
		}
	})
}

// TestRegistrationsAreLimited: an address can create a limited number of accounts a day. Failed
// registrations do not count.
func TestRegistrationsAreLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		register := func(name, address string) answer {
			return s.call(t, "POST", "/api/auth/register", "", `{"username":"`+name+`","password":"correct horse battery"}`, "X-Forwarded-For", address)
		}
		for i := range 20 {
			register(fmt.Sprintf("user-%d", i), "192.0.2.1").want(t, "as many as are allowed", 201, "")
			register(fmt.Sprintf("user-%d", i), "192.0.2.1").want(t, "the same name again", 409, "")
		}
		limited := register("one-more", "192.0.2.1")
		limited.want(t, "one more", 429, "Too many requests, try again later")
		if limited.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		register("one-more", "192.0.2.2").want(t, "another address", 201, "")
	})
}

// TestGuessesAtOnce: of parallel guesses, no more are checked than the limit allows.
func TestGuessesAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		// together sends logins in parallel and returns how many had which status.
		together := func(n int, password, address string) map[int]int {
			statuses := map[int]int{}
			var mu sync.Mutex
			var all sync.WaitGroup
			for range n {
				all.Go(func() {
					status := s.loginWith(t, "alice", password, "", address).status
					mu.Lock()
					defer mu.Unlock()
					statuses[status]++
				})
			}
			all.Wait()
			return statuses
		}
		if got := together(16, "wrong horse battery", "192.0.2.1"); got[http.StatusUnauthorized] != 5 || got[http.StatusTooManyRequests] != 11 {
			t.Errorf("16 wrong passwords at once are answered %v, want 5 times 401 and 11 times 429", got)
		}
		if got := together(16, "correct horse battery", "192.0.2.2"); got[http.StatusOK] != 16 {
			t.Errorf("16 right passwords at once are answered %v, want 16 times 200", got)
		}
		// People sometimes type passwords into the field for the name.
		for digest := range s.limits.usernames {
			if digest != s.usernames.Digest("alice") {
				t.Errorf("a login was counted by %q, which is no keyed digest of the name", digest)
			}
		}
	})
}
