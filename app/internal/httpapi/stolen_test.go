package httpapi_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestStolenTokenLeavesItsUser: a thief with a live token cannot use up the user's budget, or what
// the user needs to end that session.
func TestStolenTokenLeavesItsUser(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		const limit = 40
		s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(limit) })
		stolen := s.signIn(t, "alice")
		for range limit {
			s.call(t, "GET", "/api/notes", stolen, "", "X-Forwarded-For", "192.0.2.1")
		}
		s.call(t, "GET", "/api/notes", stolen, "").want(t, "the stolen token, once more", 429, "")
		for range 80 {
			s.call(t, "GET", "/api/auth/sessions", stolen, "", "X-Forwarded-For", "192.0.2.1")
		}
		s.call(t, "GET", "/api/auth/sessions", stolen, "").want(t, "a security call of the stolen token, once more", 429, "")

		mine := s.loginWith(t, "alice", "correct horse battery", "", "192.0.2.2").body["token"].(string)
		s.call(t, "POST", "/api/notes", mine, `{"content":"mine"}`).want(t, "a write of the user", 201, "")
		var other string
		for _, entry := range s.call(t, "GET", "/api/auth/sessions", mine, "").body["sessions"].([]any) {
			if fields := entry.(map[string]any); fields["current"] == false {
				other = fields["id"].(string)
			}
		}
		s.call(t, "DELETE", "/api/auth/sessions/"+other, mine, `{"password":"correct horse battery"}`).want(t, "the user ends the session", 200, "")
	})
}

// TestStolenTokenWastesNoCodes: a code to confirm counts only for an existing proposal, which needs
// the password.
func TestStolenTokenWastesNoCodes(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		stolen := s.signIn(t, "alice")
		confirm := func(token, code string) answer {
			return s.call(t, "POST", "/api/auth/totp/confirm", token, `{"code":"`+code+`"}`)
		}
		for i := range 55 {
			confirm(stolen, fmt.Sprintf("%06d", i)).want(t, "without a proposal", 409, "No second factor is set up")
		}
		mine := s.login(t, "alice", "correct horse battery").body["token"].(string)
		propose := func() authenticator {
			proposed := s.call(t, "POST", "/api/auth/totp", mine, `{"password":"correct horse battery"}`)
			proposed.want(t, "propose", 201, "")
			return authenticator{s, proposed.body["secret"].(string)}
		}
		app := propose()
		for range 10 {
			confirm(mine, app.wrong(t)).want(t, "a wrong code", 403, "Invalid code")
		}
		confirm(mine, app.code(t, 0)).want(t, "one code too many", 429, "")
		app = propose()
		confirm(mine, app.code(t, 0)).want(t, "the next proposal", 200, "")
	})
}

// TestReadsAtOnce: a user's requests in flight are bounded over all sessions, even if their answers
// are small and not read.
func TestReadsAtOnce(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		release := make(chan struct{})
		var reads sync.WaitGroup
		statuses := map[int]int{}
		for session := range 6 {
			token := s.loginWith(t, "alice", "correct horse battery", "", fmt.Sprintf("192.0.2.%d", session)).body["token"].(string)
			s.call(t, "GET", "/api/notes", token, "").want(t, "a list", 200, "")
			for range 50 {
				sending := make(chan int, 1)
				request := httptest.NewRequest(http.MethodGet, "/api/notes", nil)
				request.Header.Set("Authorization", "Bearer "+token)
				writer := &stalled{httptest.NewRecorder(), sending, release}
				reads.Go(func() { s.Config.Handler.ServeHTTP(writer, request) })
				statuses[<-sending]++
			}
		}
		if statuses[http.StatusOK] > 64 || statuses[http.StatusTooManyRequests] != 300-statuses[http.StatusOK] {
			t.Errorf("300 lists of one user are answered %v, want at most 64 in flight", statuses)
		}
		close(release)
		reads.Wait()
	})
}

// TestUnreadAnswersDenyNothing: a thief who does not read answers cannot keep the user from
// changing anything. Every committed change is answered and recorded as such.
func TestUnreadAnswersDenyNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		stolen := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", stolen, `{"content":"`+strings.Repeat("x", 33_000)+`"}`).body["id"].(string)
		release := make(chan struct{})
		var reads sync.WaitGroup
		for range 40 {
			sending := make(chan int, 1)
			request := httptest.NewRequest(http.MethodGet, "/api/notes/"+id, nil)
			request.Header.Set("Authorization", "Bearer "+stolen)
			writer := &stalled{httptest.NewRecorder(), sending, release}
			reads.Go(func() { s.Config.Handler.ServeHTTP(writer, request) })
			<-sending
		}
		mine := s.loginWith(t, "alice", "correct horse battery", "", "192.0.2.2").body["token"].(string)
		s.call(t, "GET", "/api/notes", mine, "").want(t, "list", 200, "")
		s.call(t, "GET", "/api/notes/"+id, mine, "").want(t, "read", 200, "")
		s.call(t, "PUT", "/api/notes/"+id, mine, `{"content":"changed"}`).want(t, "update", 200, "")
		s.call(t, "POST", "/api/auth/password", mine, `{"current_password":"correct horse battery","new_password":"another fine password"}`).
			want(t, "password", 200, "")
		close(release)
		reads.Wait()
		if strings.Contains(s.trail.String(), `"outcome":"denied"`) {
			t.Errorf("something is recorded as denied: %s", s.trail)
		}
	})
}

// TestRequestsAtOnceCostFewLines: hundreds of requests beyond the bound in flight have one audit
// line together, and lose their connection.
func TestRequestsAtOnceCostFewLines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		release := make(chan struct{})
		var held sync.WaitGroup
		for range 16 { // as many as may be in flight
			sending := make(chan int, 1)
			request := httptest.NewRequest(http.MethodGet, "/api/auth/sessions", nil)
			request.Header.Set("Authorization", "Bearer "+token)
			writer := &stalled{httptest.NewRecorder(), sending, release}
			held.Go(func() { s.Config.Handler.ServeHTTP(writer, request) })
			<-sending
		}
		before := strings.Count(s.trail.String(), "\n")
		for range 200 {
			request := httptest.NewRequest(http.MethodGet, "/api/auth/sessions", nil)
			request.Header.Set("Authorization", "Bearer "+token)
			answer := httptest.NewRecorder()
			s.Config.Handler.ServeHTTP(answer, request)
			if answer.Code != http.StatusTooManyRequests || answer.Header().Get("Connection") != "close" {
				t.Fatalf("status %d, Connection %q", answer.Code, answer.Header().Get("Connection"))
			}
		}
		if lines := strings.Count(s.trail.String(), "\n") - before; lines > 2 {
			t.Errorf("200 refused requests cost %d lines", lines)
		}
		close(release)
		held.Wait()
	})
}
