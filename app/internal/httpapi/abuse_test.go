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

const wrong = `{"username":"alice","password":"wrong horse battery"}`

func TestFailedLoginsAreLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		// The test's own address is a trusted proxy, so X-Forwarded-For names the client.
		from := func(address, body string) answer {
			return s.call(t, "POST", "/api/auth/login", "", body, "X-Forwarded-For", address)
		}
		for range 5 {
			from("192.0.2.1", wrong).want(t, "wrong password", 401, "Invalid credentials")
		}
		limited := from("192.0.2.1", `{"username":"alice","password":"correct horse battery"}`)
		limited.want(t, "the right one, too late", 429, "Too many requests, try again later")
		if limited.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		from("192.0.2.2", `{"username":"alice","password":"correct horse battery"}`).want(t, "another address", 200, "")
		// An attacker who owns a /64 has no more attempts than one with a single address.
		for i := range 5 {
			from("2001:db8::"+string(rune('1'+i)), wrong).want(t, "IPv6", 401, "")
		}
		from("2001:db8::ffff", wrong).want(t, "IPv6, another address of the /64", 429, "")
		// Entries that the client itself puts before the proxy's are not trusted.
		from("198.51.100.9, 192.0.2.1", wrong).want(t, "forged X-Forwarded-For", 429, "")
	})
}

// TestFailedAuthenticationsAreLimited: requests without a token, or with an invalid one, count for
// their address only.
func TestFailedAuthenticationsAreLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(4) })
		token := s.signIn(t, "alice") // from another address than the requests below
		list := func(address, token string) answer {
			return s.call(t, "GET", "/api/notes", token, "", "X-Forwarded-For", address)
		}
		for range 2 {
			list("192.0.2.1", "").want(t, "no token", 401, "Missing token")
			list("192.0.2.1", "a.b.c.d.e").want(t, "a foreign token", 401, "Invalid token")
		}
		limited := list("192.0.2.1", "a.b.c.d.e")
		limited.want(t, "one too many", 429, "Too many requests, try again later")
		if limited.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		list("192.0.2.1", "").want(t, "one too many, no token", 429, "")
		list("192.0.2.1", token).want(t, "a user at that address", 200, "")
		list("192.0.2.2", "").want(t, "another address", 401, "Missing token")
	})
}

// TestRequestsAreLimited: a user's requests from all addresses are limited.
func TestRequestsAreLimited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(4) })
		alice, bob := s.signIn(t, "alice"), s.signIn(t, "bob")
		other := s.loginWith(t, "alice", "correct horse battery", "", "192.0.2.7").body["token"].(string)
		list := func(token, address string) answer {
			return s.call(t, "GET", "/api/notes", token, "", "X-Forwarded-For", address)
		}
		for i := range 3 {
			list(alice, fmt.Sprintf("192.0.2.%d", i)).want(t, "as many as a session may", 200, "")
		}
		list(alice, "192.0.2.8").want(t, "one more of the session", 429, "Too many requests, try again later")
		list(other, "192.0.2.8").want(t, "another session of the user", 200, "")
		limited := list(other, "192.0.2.9")
		limited.want(t, "one more of the user", 429, "Too many requests, try again later")
		if limited.header.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
		list(bob, "192.0.2.0").want(t, "another user", 200, "")
	})
}

// TestDeadTokenLeavesItsUser: requests with a token of an ended session do not use up the user's
// budget, whatever they contain.
func TestDeadTokenLeavesItsUser(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path, body string
		status             int
	}{
		"read":          {method: "GET", path: "/api/notes", status: 401},
		"write":         {method: "POST", path: "/api/notes", body: `{"content":"x"}`, status: 401},
		"logout":        {method: "POST", path: "/api/auth/logout", status: 401},
		"broken body":   {method: "POST", path: "/api/notes", body: `{`, status: 400},
		"invalid note":  {method: "POST", path: "/api/notes", body: `{"content":""}`, status: 400},
		"no id":         {method: "GET", path: "/api/notes/7", status: 404},
		"no such limit": {method: "GET", path: "/api/notes?limit=0", status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				const limit = 10
				s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(limit) })
				token := s.signIn(t, "alice")
				stolen := s.login(t, "alice", "correct horse battery").body["token"].(string)
				s.call(t, "POST", "/api/auth/password", token, `{"current_password":"correct horse battery","new_password":"another fine password"}`).
					want(t, "change the password", 200, "")
				for range limit {
					s.call(t, tc.method, tc.path, stolen, tc.body, "X-Forwarded-For", "192.0.2.1").want(t, "the token of the ended session", tc.status, "")
				}
				s.call(t, tc.method, tc.path, stolen, tc.body, "X-Forwarded-For", "192.0.2.1").want(t, "the token of the ended session, once more", 429, "")
				s.call(t, "GET", "/api/notes", token, "", "X-Forwarded-For", "192.0.2.1").want(t, "the user, even at that address", 200, "")
			})
		})
	}
}

// TestForwardedPortsShareNoCounter: clients behind a proxy that writes ports are counted
// separately.
func TestForwardedPortsShareNoCounter(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		right := strings.Replace(wrong, "wrong", "correct", 1)
		for _, tc := range []struct{ attacker, other string }{
			{attacker: "203.0.113.5:%", other: "203.0.113.6:1"}, {attacker: "[2001:db8::1]:%", other: "[2001:db8:1::1]:1"},
		} {
			for _, port := range []string{"1", "2", "3", "4", "5"} {
				from := strings.Replace(tc.attacker, "%", port, 1)
				s.call(t, "POST", "/api/auth/login", "", wrong, "X-Forwarded-For", from).want(t, "wrong password from "+from, 401, "")
			}
			from := strings.Replace(tc.attacker, "%", "6", 1)
			s.call(t, "POST", "/api/auth/login", "", right, "X-Forwarded-For", from).want(t, "right password from "+from, 429, "")
			s.call(t, "POST", "/api/auth/login", "", right, "X-Forwarded-For", tc.other).want(t, "right password from "+tc.other, 200, "")
		}
	})
}

// TestHiddenClientsAreReported: when many users come from one private address, the log says so
// once, and what to do.
func TestHiddenClientsAreReported(t *testing.T) {
	for name, tc := range map[string]struct {
		address string
		want    int
	}{
		"a node":                    {address: "10.0.0.1", want: 1},
		"an office":                 {address: "203.0.113.5", want: 0},
		"a proxy that says unknown": {address: "unknown", want: 0}, // 127.0.0.1 does not count as private
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t, storetest.SQLite(t), true)
			for i := range 20 {
				token := s.signIn(t, fmt.Sprintf("user%d", i))
				s.call(t, "GET", "/api/notes", token, "", "X-Forwarded-For", tc.address).want(t, "list", 200, "")
			}
			if got := strings.Count(s.log.String(), "many users come from one private address"); got != tc.want {
				t.Errorf("%d warnings, want %d", got, tc.want)
			}
			if tc.want > 0 && !strings.Contains(s.log.String(), "spec.service.externalTrafficPolicy") {
				t.Error("the warning does not say what to do")
			}
		})
	}
}

func TestUntrustedProxyIsNotBelieved(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true, withoutProxies)
		s.signIn(t, "alice")
		for i := range 6 {
			status := 401
			if i == 5 {
				status = 429
			}
			s.call(t, "POST", "/api/auth/login", "", wrong, "X-Forwarded-For", "192.0.2."+string(rune('1'+i)), "X-Real-IP", "192.0.2.99").
				want(t, "a client that names another address each time", status, "")
		}
	})
}

func TestBodies(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		const other = "The request body is not a valid JSON object"
		for what, tc := range map[string]struct{ body, message string }{
			"unknown field":   {body: `{"content":"x","owner":"y"}`, message: "Field owner is unknown"},
			"duplicate":       {body: `{"content":"x","content":"y"}`, message: "Field content is given twice"},
			"number":          {body: `{"content":7}`, message: "Field content has the wrong type"},
			"tag of a number": {body: `{"content":"x","tags":["a",7]}`, message: "Field tags.1 has the wrong type"},
			"case":            {body: `{"Content":"x"}`, message: "Field Content is unknown"},
			"array":           {body: `["content"]`, message: other},
			"trailing object": {body: `{"content":"x"}{}`, message: "There is data after the JSON object"},
			"trailing text":   {body: `{"content":"x"} x`, message: "There is data after the JSON object"},
			"cut off":         {body: `{"content":"x"`, message: other},
			"cut off in text": {body: `{"content":"x`, message: "Field content is not valid JSON"},
			"no value":        {body: `{"tags":["a",]}`, message: "Field tags is not valid JSON"},
			"invalid UTF-8":   {body: "{\"content\":\"\xff\"}", message: "Field content is not valid JSON"},
			"lone surrogate":  {body: `{"content":"\ud800"}`, message: "Field content is not valid JSON"},
			"null":            {body: `null`, message: "Invalid note content"},
			"deep":            {body: strings.Repeat(`{"a":`, 100_000), message: "Field a is unknown"},
			"deep arrays":     {body: `{"tags":` + strings.Repeat(`[`, 100_000), message: "Field tags is nested too deeply"},
			"deep text":       {body: `{"title":` + strings.Repeat(`[`, 100_000), message: "Field title is nested too deeply"},
		} {
			s.call(t, "POST", "/api/notes", token, tc.body).want(t, what, 400, tc.message)
		}
		if list := s.call(t, "GET", "/api/notes", token, ""); len(list.body["notes"].([]any)) != 0 {
			t.Errorf("something was stored: %v", list.body)
		}
	})
}

func TestCORS(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		for origin, allowed := range map[string]bool{
			"https://app.example.com": true, "https://evil.example.com": false, "http://app.example.com": false, "null": false,
		} {
			request, err := http.NewRequest(http.MethodOptions, s.URL+"/api/notes", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Origin", origin)
			request.Header.Set("Access-Control-Request-Method", http.MethodPost)
			response, err := s.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			want := ""
			if allowed {
				want = origin
			}
			if got := response.Header.Get("Access-Control-Allow-Origin"); got != want || response.Header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("origin %s: allowed %q", origin, got)
			}
			if response.Header.Get("X-Frame-Options") != "DENY" {
				t.Errorf("origin %s: the answer lacks the security headers", origin)
			}
			if status := response.StatusCode; allowed != (status == http.StatusNoContent) || !allowed && status != http.StatusForbidden {
				t.Errorf("origin %s: the preflight is answered %d", origin, status)
			}
			if !allowed {
				s.call(t, "GET", "/api/notes", "", "", "Origin", origin).want(t, "a page of "+origin, 403, foreignOrigin)
			}
		}
		s.call(t, "GET", "/api/notes", "", "", "Origin", "https://app.example.com").want(t, "a page that is allowed", 401, "Missing token")
	})
}

const foreignOrigin = "Web pages of this origin may not call the API: cors.allowedOrigins does not list it"

// TestForeignPagesAreRefused: pages of other origins cannot make their visitors' browsers send any
// request, not even one without a preflight. Other clients are not affected.
func TestForeignPagesAreRefused(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		for what, tc := range map[string]struct {
			// address is the browser's: each has its own failed logins.
			address string
			origins []string
		}{
			"no origin is allowed":  {address: "192.0.2.1"},
			"one is":                {address: "192.0.2.2", origins: []string{"https://app.example.com"}},
			"one is, with its port": {address: "192.0.2.3", origins: []string{"https://app.example.com:443"}},
		} {
			t.Run(what, func(t *testing.T) {
				origins := tc.origins
				s := newService(t, open, true, func(s *httpapi.Service) { s.AllowedOrigins = origins })
				s.signIn(t, "alice-"+strings.ReplaceAll(tc.address, ".", "-"))
				login := func(header ...string) answer {
					return s.call(t, "POST", "/api/auth/login", "", wrong, append(header, "Content-Type", "text/plain", "X-Forwarded-For", tc.address)...)
				}
				for range 10 { // more than an address has failed logins
					login("Origin", "https://evil.example.com").want(t, "a page", 403, foreignOrigin)
					login("Sec-Fetch-Site", "cross-site").want(t, "a page that hides its origin", 403, foreignOrigin)
				}
				login("Origin", "null", "Sec-Fetch-Site", "cross-site").want(t, "a page in a sandbox", 403, foreignOrigin)
				login("Origin", "https://other.app.example.com", "Sec-Fetch-Site", "same-site").want(t, "a page of the same site", 403, foreignOrigin)
				login().want(t, "no browser", 401, "Invalid credentials")
				login("Origin", s.URL, "Sec-Fetch-Site", "same-origin").want(t, "a page of the service itself", 401, "Invalid credentials")
				login("Origin", "https://notes.example.com", "Sec-Fetch-Site", "same-origin").want(t, "its page behind a proxy that names another host", 401, "Invalid credentials")
				status, message := 403, foreignOrigin
				if origins != nil {
					status, message = 401, "Invalid credentials"
				}
				login("Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site").want(t, "the page that is allowed, or not", status, message)
			})
		}
	})
}

// largestNote has the maximum number of characters, each of four bytes.
var largestNote = `{"content":"` + strings.Repeat("𝄞", 100_000) + `"}`

// stalled is the connection of a client that reads nothing, so that writes to it block.
type stalled struct {
	*httptest.ResponseRecorder
	sending chan<- int
	release <-chan struct{}
}

func (s *stalled) Write(p []byte) (int, error) {
	s.sending <- s.Code
	if s.Code == http.StatusOK {
		<-s.release
	}
	return s.ResponseRecorder.Write(p)
}

// TestLargeReadsShareTheirMemory: clients that request large notes and do not read them fill the
// shared memory, each user only its part. Small notes are still served.
func TestLargeReadsShareTheirMemory(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		release := make(chan struct{})
		var reads sync.WaitGroup
		read := func(token, id string) (int, *httptest.ResponseRecorder) {
			sending := make(chan int, 1)
			writer := &stalled{httptest.NewRecorder(), sending, release}
			request := httptest.NewRequest(http.MethodGet, "/api/notes/"+id, nil)
			request.Header.Set("Authorization", "Bearer "+token)
			reads.Go(func() { s.Config.Handler.ServeHTTP(writer, request) })
			return <-sending, writer.ResponseRecorder
		}
		// until reads a note until it is refused.
		until := func(token, id string, status int) {
			t.Helper()
			for range 30 {
				got, answer := read(token, id)
				if got == http.StatusOK {
					continue
				}
				if got != status || answer.Header().Get("Retry-After") == "" {
					t.Errorf("refused with %d, want %d; %v", got, status, answer.Header())
				}
				return
			}
			t.Errorf("30 notes of 400 kB each are in memory")
		}
		tokens, ids := make([]string, 5), make([]string, 5)
		for i := range tokens {
			tokens[i] = s.signIn(t, fmt.Sprintf("user-%d", i))
			ids[i] = s.call(t, "POST", "/api/notes", tokens[i], largestNote).body["id"].(string)
		}
		small := s.call(t, "POST", "/api/notes", tokens[0], `{"content":"small"}`).body["id"].(string)
		until(tokens[0], ids[0], http.StatusTooManyRequests)
		until(tokens[1], ids[1], http.StatusTooManyRequests)
		until(tokens[2], ids[2], http.StatusTooManyRequests)
		until(tokens[3], ids[3], http.StatusTooManyRequests)
		until(tokens[4], ids[4], http.StatusServiceUnavailable) // these connections cannot be cut off
		s.call(t, "GET", "/api/notes/"+small, tokens[0], "").want(t, "a small note meanwhile", 200, "")
		close(release)
		reads.Wait()
		for i := range tokens {
			s.call(t, "GET", "/api/notes/"+ids[i], tokens[i], "").want(t, "afterwards", 200, "")
		}
	})
}
