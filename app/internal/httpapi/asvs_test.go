package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// The tests of this file check requirements of docs/asvs.md that no other test checks.

// TestEveryCallNeedsAToken sends every call of the document that needs a token without one, and
// with a valid one in the wrong place.
func TestEveryCallNeedsAToken(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		asked := 0
		for path, item := range doc.Paths.Map() {
			path = strings.ReplaceAll(path, "{id}", uuid.NewString())
			for method, operation := range item.Operations() {
				if operation.Security != nil && len(*operation.Security) == 0 {
					continue
				}
				asked++
				what := method + " " + path
				s.call(t, method, path, "", "").want(t, what, 401, "Missing token")
				s.call(t, method, path+"?token="+token+"&access_token="+token, "", "").want(t, what+", token in the URL", 401, "Missing token")
				s.call(t, method, path, "", "", "Cookie", "token="+token).want(t, what+", token in a cookie", 401, "Missing token")
				s.call(t, method, path, "", "", "Authorization", "Basic "+token).want(t, what+", another scheme", 401, "Missing token")
			}
		}
		if asked < 10 {
			t.Errorf("only %d calls need a token", asked)
		}
		s.call(t, "GET", "/api/notes", token, "").want(t, "the token in its place", 200, "")
	})
}

// TestNothingElseIsServed: there is no other page, directory, metric, probe or debugging aid, no
// redirect, and no change by a safe method.
func TestNothingElseIsServed(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		for call, status := range map[string]int{
			"GET /": 404, "GET /api": 404, "GET /api/": 404, "GET /api/notes/": 404, "GET /API/notes": 404, "GET /api//notes": 404,
			"GET /metrics": 404, "GET /livez": 404, "GET /readyz": 404, "GET /debug/pprof/": 404, "GET /debug/vars": 404,
			"GET /.git/config": 404, "GET /index.html": 404,
			"TRACE /api/notes": 405, "TRACE /": 404, "CONNECT /api/notes": 405, "PATCH /api/notes": 405,
			"GET /api/auth/login": 405, "GET /api/auth/logout": 405, "GET /api/auth/password": 405, "HEAD /api/account": 405,
		} {
			method, path, _ := strings.Cut(call, " ")
			request, err := http.NewRequest(method, s.URL+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+token)
			// The client would follow a redirect, so the transport is used.
			response, err := s.Client().Transport.RoundTrip(request)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(response.Body)
			response.Body.Close()
			if response.StatusCode != status || response.Header.Get("Location") != "" || strings.Contains(string(raw), token) {
				t.Errorf("%s: %d, to %q, %v: %s", call, response.StatusCode, response.Header.Get("Location"), err, raw)
			}
		}
		s.call(t, "GET", "/api/notes", token, "").want(t, "still signed in", 200, "")
		// A request for the server as a whole has no path.
		writer := httptest.NewRecorder()
		s.Config.Handler.ServeHTTP(writer, httptest.NewRequest(http.MethodOptions, "*", nil))
		if writer.Code != http.StatusNotFound {
			t.Errorf("OPTIONS *: status %d", writer.Code)
		}
		hasSecurityHeaders(t, "OPTIONS *", writer.Header())
	})
}

// TestAnswersSayWhatTheyAre: answers have a type and an encoding, send no referrer and no cookie,
// and allow no frame, plug-in or base URL. An export is a file with a fixed name.
func TestAnswersSayWhatTheyAre(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		for call, kind := range map[string]string{
			"GET /api/notes": "application/json; charset=utf-8", "GET /api/notes/7": "application/json; charset=utf-8",
			"GET /nowhere": "application/json; charset=utf-8", "GET /api/auth/login": "application/json; charset=utf-8",
			"POST /api/auth/login": "application/json; charset=utf-8", "GET /api/account/export": "application/x-ndjson",
			"GET /api/openapi.yaml": "application/yaml",
		} {
			method, path, _ := strings.Cut(call, " ")
			request, err := http.NewRequest(method, s.URL+path, strings.NewReader(`{"username":"alice","password":"correct horse battery"}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+token)
			response, err := s.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			for name, want := range map[string]string{
				"Content-Type": kind, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"Strict-Transport-Security": "max-age=31536000; includeSubDomains; preload", "Set-Cookie": "",
				"Content-Security-Policy": "default-src 'self'; script-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'",
			} {
				if got := response.Header.Get(name); got != want {
					t.Errorf("%s: %s is %q, want %q", call, name, got, want)
				}
			}
			if got := response.Header.Get("Content-Disposition"); path == "/api/account/export" && got != `attachment; filename="securenotes-export.ndjson"` {
				t.Errorf("%s: Content-Disposition %q", call, got)
			}
		}
	})
}

// TestPasswordIsTakenAsItIs: passwords are not trimmed, cut or folded, and no kind of character is
// required. Registration also refuses common ones and those that contain the username.
func TestPasswordIsTakenAsItIs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		register := func(username, password string) answer {
			return s.call(t, "POST", "/api/auth/register", "", `{"username":"`+username+`","password":"`+password+`"}`)
		}
		for i, password := range []string{
			"  Two Spaces ", "onlyletters of one case", "7394620518", "пароль из слов", "🐎🔋🐎🔋🐎🔋🐎🔋", "~!@#$%^&*()'", strings.Repeat("x", 256),
		} {
			name := fmt.Sprintf("user%d", i)
			register(name, password).want(t, password, 201, "")
			s.login(t, name, password).want(t, password, 200, "")
		}
		for _, other := range []string{"Two Spaces", "  two spaces ", "  Two Spaces"} {
			s.login(t, "user0", other).want(t, "not quite the password", 401, "Invalid credentials")
		}
		s.login(t, "user6", strings.Repeat("x", 255)).want(t, "cut by one", 401, "Invalid credentials")
		register("bob", "ILoveYou1").want(t, "a common one", 400, "Password is one of the most common ones, choose another")
		register("Robert", "for robert only").want(t, "the username in it", 400, "Password must not contain the username: attackers try it first")
		register("bob", "My SecureNotes 1").want(t, "the service in it", 400, "Password must not contain securenotes, the name of the service: attackers try it first")
	})
}

// TestSQLInInputIsText: text that looks like SQL is stored, searched for and refused like any other
// text.
func TestSQLInInputIsText(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		const name, content = `'or'1'='1';--`, `'); DELETE FROM notes; -- $1 ?`
		token, alice := s.signIn(t, name), s.signIn(t, "alice")
		for _, username := range []string{`alice'--`, `alice';--`, `'or'1'='1`, `ali%`, `ali__`} {
			s.login(t, username, "correct horse battery").want(t, username, 401, "Invalid credentials")
		}
		kept := s.call(t, "POST", "/api/notes", alice, `{"content":"kept"}`).body["id"].(string)
		id := s.call(t, "POST", "/api/notes", token, `{"content":"`+content+`","title":"`+content+`"}`).body["id"].(string)
		if read := s.call(t, "GET", "/api/notes/"+id, token, ""); read.body["content"] != content || read.body["title"] != content {
			t.Errorf("read back: %v", read.body)
		}
		s.call(t, "GET", "/api/notes?cursor='%20OR%201=1", token, "").want(t, "cursor", 400, "")
		for _, method := range []string{"GET", "DELETE"} {
			s.call(t, method, "/api/notes/'%20OR%20'1'='1", token, "").want(t, method, 404, "Note not found")
		}
		s.call(t, "DELETE", "/api/auth/sessions/'%20OR%20'1'='1", token, "").want(t, "sessions", 404, "Session not found")
		s.call(t, "GET", "/api/notes/"+kept, alice, "").want(t, "another user's note and session", 200, "")
	})
}

// TestRefusalsAreAudited: each refusal has one audit line with its status and its time in UTC,
// whatever the request contains. Faults of the service are also in its own log.
func TestRefusalsAreAudited(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		begin := strings.Count(s.trail.String(), "\n")
		s.call(t, "POST", "/api/notes", token, `{"content":"x","owner":"y"}`).want(t, "unknown field", 400, "")
		s.call(t, "POST", "/api/auth/password", token, `{"current_password":"wrong horse battery","new_password":"another fine password"}`).
			want(t, "wrong password", 403, "")
		s.call(t, "GET", "/api/notes/"+uuid.NewString(), token, "").want(t, "nobody's note", 404, "")
		for range 4 {
			s.call(t, "POST", "/api/auth/login", "", `{"username":"a\n{\"audit\":1,\"action\":\"forged\"}","password":"x"}`).want(t, "login", 401, "")
		}
		s.call(t, "POST", "/api/auth/login", "", wrong, "X-Request-Id", "forged").want(t, "login", 429, "")
		s.provider.away = true
		s.call(t, "POST", "/api/notes", token, `{"content":"x"}`).want(t, "no key", 503, "")

		var got []string
		for line := range strings.Lines(s.trail.String()) {
			var r audit.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil || strings.Contains(line, "forged") {
				t.Fatalf("%v: %s", err, line)
			}
			if _, offset := r.Time.Zone(); offset != 0 || !strings.Contains(line, `Z","action"`) {
				t.Errorf("not in UTC: %s", line)
			}
			got = append(got, fmt.Sprintf("%s %s %d", r.Action, r.Outcome, r.Status))
		}
		want := strings.Join([]string{
			"note.create denied 400", "account.password denied 403", "note.read denied 404", "session.login denied 401",
			"session.login denied 401", "session.login denied 401", "session.login denied 401", "session.login denied 429",
			"note.create error 503",
		}, "\n")
		if lines := strings.Join(got[begin:], "\n"); lines != want {
			t.Errorf("got:\n%s\nwant:\n%s", lines, want)
		}
		if log := s.log.String(); !strings.Contains(log, `msg="request failed"`) || strings.Contains(log, "forged") {
			t.Errorf("the log lacks the failure, or repeats text of the client:\n%s", log)
		}
	})
}

// TestRequestLengthIsUnambiguous: a request whose end is ambiguous is refused, and what follows it
// is not read. With a transfer coding, the length is ignored.
func TestRequestLengthIsUnambiguous(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		for headers, next := range map[string]int{
			"Content-Length: 5\r\nContent-Length: 6\r\n":                   0,
			"Content-Length: +5\r\n":                                       0,
			"Content-Length : 5\r\n":                                       0,
			"Transfer-Encoding: chunked, identity\r\n":                     0,
			"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n": 0,
			"Transfer-Encoding: xchunked\r\n":                              0,
			"Content-Length: 5000\r\nTransfer-Encoding: chunked\r\n":       404,
		} {
			connection, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
			// By its length the body has five bytes. By the coding it ends with an empty chunk, and
			// another request follows.
			fmt.Fprintf(connection, "POST /api/auth/login HTTP/1.1\r\nHost: x\r\n%s\r\n0\r\n\r\nGET /api/next HTTP/1.1\r\nHost: x\r\n\r\n", headers)
			reader := bufio.NewReader(connection)
			first, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("%q: %v", headers, err)
			}
			_, _ = io.Copy(io.Discard, first.Body)
			first.Body.Close()
			got := 0
			if second, err := http.ReadResponse(reader, nil); err == nil {
				got = second.StatusCode
				second.Body.Close()
			}
			if first.StatusCode < 400 || got != next {
				t.Errorf("%q: answered %d and then %d, want %d", headers, first.StatusCode, got, next)
			}
			connection.Close()
		}
	})
}

// TestProposedURIIsEncoded: whatever the username contains, the URI names the account and has one
// secret.
func TestProposedURIIsEncoded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		const name = "a?secret=b&issuer=c#d/e%41:f+g"
		proposed := s.call(t, "POST", "/api/auth/totp", s.signIn(t, name), `{"password":"correct horse battery"}`)
		proposed.want(t, "propose", 201, "")
		uri, err := url.Parse(proposed.body["uri"].(string))
		if err != nil {
			t.Fatal(err)
		}
		query := uri.Query()
		if uri.Scheme != "otpauth" || uri.Path != "/SecureNotes:"+name || uri.Fragment != "" ||
			len(query["secret"]) != 1 || query.Get("secret") != proposed.body["secret"] || len(query["issuer"]) != 1 || query.Get("issuer") != "SecureNotes" {
			t.Errorf("uri %s", uri)
		}
	})
}

// TestPasswordsDoNotExpire: a user logs in with the same password after twenty years.
func TestPasswordsDoNotExpire(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		s.signIn(t, "alice")
		s.behind -= 20 * 365 * 24 * time.Hour
		s.login(t, "alice", "correct horse battery").want(t, "login", 200, "")
	})
}

// TestRecoveryCodesAreLong: there are ten different codes, each with 26 characters of base32, 130
// bits.
func TestRecoveryCodesAreLong(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		_, _, codes := enrol(t, newService(t, open, true))
		slices.Sort(codes)
		if codes = slices.Compact(codes); len(codes) != 10 {
			t.Errorf("%d different codes", len(codes))
		}
		for _, code := range codes {
			letters := strings.ReplaceAll(code, "-", "")
			if len(letters) != 26 || strings.Trim(letters, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" {
				t.Errorf("code %q", code)
			}
		}
	})
}
