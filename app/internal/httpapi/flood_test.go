package httpapi_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestLoginFloodLeavesReads: while every place for hashing passwords is taken and more logins wait for one, who is
// signed in reads and writes as ever, and the logins that find no place are answered 503.
func TestLoginFloodLeavesReads(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)

		// A login that has a place is held where it is counted.
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
			held.Go(func() { login(i).want(t, "a login that has a place", 401, "Invalid credentials") })
		}
		for range places {
			<-hashing
		}
		for i := range 8 {
			waiting.Go(func() {
				a := login(places + i)
				if a.want(t, "a login without a place", 503, "Too many logins at once, try again later"); a.header.Get("Retry-After") == "" {
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
