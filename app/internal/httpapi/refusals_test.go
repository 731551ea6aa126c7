package httpapi_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestRefusalsCostFewLines: thousands of refused requests have one audit line of each kind, and
// another one with the number of the others. They have none in the service's own log.
func TestRefusalsCostFewLines(t *testing.T) {
	const limit, times, addresses = 5, 500, 4
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out, log := &breakable{}, &bytes.Buffer{}
		var trail *audit.Log
		s := newService(t, open, true, withTrail(t, out), func(s *httpapi.Service) {
			s.Requests, s.Log = ratelimit.NewRequests(limit), slog.New(slog.NewTextHandler(log, nil))
			trail = s.Audit
		})
		token := s.signIn(t, "alice")
		log.Reset()
		begin := len(out.records(t))
		audited, refused, other := 0, 0, 0
		for _, tc := range []struct {
			method, path, body, token, origin string
			audited                           bool
		}{
			{method: "GET", path: "/api/notes", audited: true},
			{method: "GET", path: "/api/notes", token: token, audited: true},
			{method: "POST", path: "/api/auth/login", body: `{"username":"alice","password":"wrong horse battery"}`, audited: true},
			{method: "POST", path: "/api/auth/login", body: `{}`, origin: "https://evil.example.com", audited: true},
			{method: "GET", path: "/api/nothing"},
			{method: "PATCH", path: "/api/notes"},
			{method: "OPTIONS", path: "/api/notes", origin: "https://evil.example.com"},
		} {
			for i := range times * addresses {
				request := httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body))
				request.RemoteAddr = "127.0.0.1:1"
				// All IPv6 addresses of a network count as one.
				request.Header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8:0:%x::%x", i%addresses, i))
				if tc.token != "" {
					request.Header.Set("Authorization", "Bearer "+tc.token)
				}
				if tc.origin != "" {
					request.Header.Set("Origin", tc.origin)
				}
				w := httptest.NewRecorder()
				s.Config.Handler.ServeHTTP(w, request)
				status := w.Code
				switch {
				case status != http.StatusTooManyRequests && status != http.StatusForbidden:
					other++
				case tc.audited:
					audited++
					refused++
				default:
					refused++
				}
			}
		}
		if refused < 10_000 {
			t.Errorf("only %d requests were refused", refused)
		}
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		trail.Run(ended)
		lines, told := 0, 0
		for _, r := range out.records(t)[begin:] {
			if r.Status != http.StatusTooManyRequests && r.Status != http.StatusForbidden {
				continue
			}
			lines++
			told += max(1, r.Refused)
		}
		// There are three kinds of limits and the check of the origin, for each address.
		if most := 2 * 4 * addresses; lines > most || told != audited {
			t.Errorf("%d audit lines count %d refusals, want at most %d lines and %d refusals", lines, told, most, audited)
		}
		if n := strings.Count(log.String(), "\n"); n > other {
			t.Errorf("%d lines in the process's own log for %d requests that were not refused", n, other)
		}
	})
}

// TestLimitedClientsLoseTheirConnection: the next request needs a new connection, in HTTP/1.1 and
// in HTTP/2.
func TestLimitedClientsLoseTheirConnection(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				s := newService(t, open, true, func(s *httpapi.Service) { s.Requests = ratelimit.NewRequests(1) })
				server := httptest.NewUnstartedServer(s.Config.Handler)
				server.EnableHTTP2 = http2
				server.StartTLS()
				t.Cleanup(server.Close)
				get := func() (status int, reused bool) {
					ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
					request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/api/openapi.yaml", nil)
					if err != nil {
						t.Fatal(err)
					}
					response, err := server.Client().Do(request)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.Copy(io.Discard, response.Body); err != nil {
						t.Error(err)
					}
					_ = response.Body.Close()
					return response.StatusCode, reused
				}
				for range 2 {
					_, _ = get()
				}
				for range 3 {
					if status, reused := get(); status != http.StatusTooManyRequests || reused {
						t.Errorf("status %d over a connection that was used before: %v", status, reused)
					}
				}
			})
		})
	}
}

// TestFailuresCostFewLines: while a part of the service is unavailable, each request fails and few
// are logged.
func TestFailuresCostFewLines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		s.provider.away, s.provider.cause = true, envelope.ErrUnavailable
		for range 100 {
			s.call(t, "POST", "/api/notes", token, `{"content":"x"}`).want(t, "no key", 503, "")
		}
		if n := strings.Count(s.log.String(), "level=ERROR"); n == 0 || n > 10 {
			t.Errorf("%d lines for 100 failures", n)
		}
	})
}
