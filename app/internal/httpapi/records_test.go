package httpapi_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// breakable is the output of an audit log that can be broken. It is safe for concurrent use.
type breakable struct {
	mu    sync.Mutex
	text  strings.Builder
	allow func(line string) bool
}

func (b *breakable) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.allow != nil && !b.allow(string(p)) {
		return 0, errors.New("broken")
	}
	return b.text.Write(p)
}

// only lets through the lines that allow approves; nil approves all.
func (b *breakable) only(allow func(line string) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.allow = allow
}

// records returns the lines written so far, without the first line of the chain.
func (b *breakable) records(t testing.TB) []audit.Record {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var records []audit.Record
	for line := range strings.Lines(b.text.String()) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		records = append(records, r)
	}
	return records[1:]
}

func none(string) bool { return false }

// withTrail makes the service write its audit log to out.
func withTrail(t testing.TB, out io.Writer) func(*httpapi.Service) {
	return func(s *httpapi.Service) {
		t.Helper()
		trail, err := audit.New(out, "d1", noSigner{}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		s.Audit = trail
	}
}

const notRecorded = "The audit log cannot be written, try again later"

// unrecorded checks the answer to a request that could not be recorded.
func unrecorded(t testing.TB, what string, a answer) {
	t.Helper()
	a.want(t, what, http.StatusServiceUnavailable, notRecorded)
	if a.header.Get("Retry-After") == "" {
		t.Errorf("%s: 503 without Retry-After", what)
	}
	hasSecurityHeaders(t, what, a.header)
	for _, name := range []string{"ETag", "Location", "Idempotent-Replayed"} {
		if value := a.header.Get(name); value != "" {
			t.Errorf("%s: the answer that was dropped has left header %s: %s", what, name, value)
		}
	}
}

// TestNoLineNoData: a request that cannot be recorded gets no data.
func TestNoLineNoData(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out := &breakable{}
		s := newService(t, open, true, withTrail(t, out))
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)
		out.only(none)
		for _, path := range []string{"/api/notes", "/api/notes/" + id, "/api/auth/sessions", "/api/auth/totp", "/api/account/export"} {
			unrecorded(t, path, s.call(t, "GET", path, token, ""))
		}
		unrecorded(t, "a wrong password", s.login(t, "alice", "wrong horse battery"))
		s.call(t, "GET", "/api/nothing", "", "").want(t, "requests that are not audited", 404, "Not found")
	})
}

// TestNothingIsCommittedWithoutIntent tries every operation of the document that changes something.
// Without its line of intent nothing is changed. With that line only, the answer is dropped.
func TestNothingIsCommittedWithoutIntent(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(httpapi.OpenAPI)
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			if method == http.MethodGet {
				continue
			}
			for what, tc := range map[string]struct {
				allow   func(string) bool
				changed bool
			}{
				"no line":                 {allow: none},
				"the line of intent only": {allow: func(line string) bool { return strings.Contains(line, `"outcome":"intent"`) }, changed: true},
			} {
				t.Run(method+" "+path+" "+what, func(t *testing.T) {
					file := filepath.Join(t.TempDir(), "notes.db")
					out := &breakable{}
					s := newService(t, storetest.SQLiteAt(t, file), true, withTrail(t, out))
					token, target, body := writeOf(t, s, method, path)
					before := contents(t, file)
					out.only(tc.allow)
					unrecorded(t, what, s.call(t, method, target, token, body))
					if changed := gocmp.Diff(before, contents(t, file)) != ""; changed != tc.changed {
						t.Errorf("the database has changed: %v, want %v", changed, tc.changed)
					}
				})
			}
		}
	}
}

// contents returns all rows of an SQLite database, by table, without the counters.
func contents(t *testing.T, file string) map[string][]string {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := map[string][]string{}
	for _, table := range selected(t, db, "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('limits', 'owner_key_seals')") {
		columns := selected(t, db, "SELECT group_concat('quote(' || name || ')', ' || '' '' || ') FROM pragma_table_info('"+table+"')")
		found[table] = selected(t, db, "SELECT "+columns[0]+" AS everything FROM \""+table+"\" ORDER BY everything")
	}
	return found
}

func selected(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		found = append(found, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return found
}

// writeOf prepares a request of an operation that changes something and would succeed.
func writeOf(t *testing.T, s *service, method, path string) (token, target, body string) {
	t.Helper()
	const password = "correct horse battery"
	token = s.signIn(t, "alice")
	target = path
	switch method + " " + path {
	case "POST /api/auth/register":
		body = `{"username":"bobby","password":"` + password + `"}`
	case "POST /api/auth/login":
		body = `{"username":"alice","password":"` + password + `"}`
	case "POST /api/auth/logout":
	case "POST /api/auth/password":
		body = `{"current_password":"` + password + `","new_password":"another fine password"}`
	case "DELETE /api/auth/sessions/{id}":
		s.login(t, "alice", password)
		for _, listed := range s.call(t, "GET", "/api/auth/sessions", token, "").body["sessions"].([]any) {
			if fields := listed.(map[string]any); fields["current"] == false {
				target, body = "/api/auth/sessions/"+fields["id"].(string), `{"password":"`+password+`"}`
			}
		}
	case "POST /api/auth/totp":
		body = `{"password":"` + password + `"}`
	case "POST /api/auth/totp/confirm":
		proposed := s.call(t, "POST", "/api/auth/totp", token, `{"password":"`+password+`"}`)
		body = `{"code":"` + authenticator{s, proposed.body["secret"].(string)}.code(t, 0) + `"}`
	case "DELETE /api/auth/totp":
		proposed := s.call(t, "POST", "/api/auth/totp", token, `{"password":"`+password+`"}`)
		code := authenticator{s, proposed.body["secret"].(string)}.code(t, 0)
		confirmed := s.call(t, "POST", "/api/auth/totp/confirm", token, `{"code":"`+code+`"}`)
		body = `{"password":"` + password + `","code":"` + confirmed.body["recovery_codes"].([]any)[0].(string) + `"}`
	case "DELETE /api/account":
		body = `{"password":"` + password + `"}`
	case "POST /api/notes":
		body = `{"content":"x"}`
	case "PUT /api/notes/{id}", "DELETE /api/notes/{id}":
		target = "/api/notes/" + s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)
		if method == http.MethodPut {
			body = `{"content":"changed"}`
		}
	default:
		t.Fatalf("no request for the operation: add one")
	}
	return token, target, body
}

// writer is a client's connection that reports when the first byte is sent.
type writer struct {
	recorder
	first func()
}

func (w *writer) WriteHeader(status int) {
	if w.first != nil {
		w.first()
		w.first = nil
	}
	w.recorder.WriteHeader(status)
}

func (w *writer) Write(p []byte) (int, error) {
	if w.first != nil {
		w.WriteHeader(http.StatusOK)
	}
	return w.recorder.Write(p)
}

// TestLineStandsBeforeTheFirstByte: before the first byte, the log has the outcome of an answer
// that was held, and the intent of one that is streamed.
func TestLineStandsBeforeTheFirstByte(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out := &breakable{}
		s := newService(t, open, true, withTrail(t, out))
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)
		for path, want := range map[string]string{
			"/api/notes/" + id: "note.read success 200", "/api/notes": "note.list success 200", "/api/notes/7": "note.read denied 404",
			"/api/account/export": "account.export intent 0",
		} {
			got := ""
			w := &writer{recorder{httptest.NewRecorder()}, func() {
				r := out.records(t)
				last := r[len(r)-1]
				got = fmt.Sprintf("%s %s %d", last.Action, last.Outcome, last.Status)
			}}
			request := httptest.NewRequest(http.MethodGet, path, nil)
			request.Header.Set("Authorization", "Bearer "+token)
			s.Config.Handler.ServeHTTP(w, request)
			if got != want {
				t.Errorf("%s: when the first byte is sent the last line is %q, want %q", path, got, want)
			}
			if length := w.Header().Get("Content-Length"); path != "/api/account/export" && length != fmt.Sprint(w.Body.Len()) {
				t.Errorf("%s: Content-Length %q of %d bytes", path, length, w.Body.Len())
			}
		}
	})
}

// TestWritesHaveTwoLines: a write has two lines of the same request. The first has the user and the
// object.
func TestWritesHaveTwoLines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out := &breakable{}
		s := newService(t, open, true, withTrail(t, out))
		token := s.signIn(t, "alice")
		created := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`)
		s.call(t, "POST", "/api/notes", token, `{"content":""}`).want(t, "no content", 400, "")
		s.login(t, "alice", "wrong horse battery").want(t, "wrong password", 401, "")
		records := out.records(t)
		user := records[1].User
		var got []string
		for i, r := range records {
			if r.Outcome == "intent" && (r.RequestID == "" || r.RequestID != records[i+1].RequestID || r.Action != records[i+1].Action) {
				t.Errorf("an intent without its outcome: %+v, %+v", r, records[i+1])
			}
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %v %s", r.Action, r.Outcome, r.User != "" && r.User == user, r.Object)))
		}
		id := created.body["id"].(string)
		want := []string{
			"account.register intent true", "account.register success true", "session.login intent true", "session.login success true",
			"note.create intent true " + id, "note.create success true " + id, "note.create denied true", "session.login denied false",
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestReplayedCreationIsRecorded checks that a retry's line of intent names a note that was never
// stored, and the line of its outcome the first request's note.
func TestReplayedCreationIsRecorded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out := &breakable{}
		s := newService(t, open, true, withTrail(t, out))
		token := s.signIn(t, "alice")
		id := ""
		for range 2 {
			id = s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`, "Idempotency-Key", "k").body["id"].(string)
		}
		records := out.records(t)
		intent, outcome := records[len(records)-2], records[len(records)-1]
		if intent.Outcome != "intent" || outcome.Outcome != "success" || intent.RequestID != outcome.RequestID || outcome.Object != id {
			t.Errorf("intent %+v, outcome %+v; want an outcome for note %s", intent, outcome, id)
		}
		s.call(t, "GET", "/api/notes/"+intent.Object, token, "").want(t, "the note of the intent", 404, "Note not found")
	})
}

// TestExportIsRecorded: the line has how much was sent, also of an export that was cut off.
func TestExportIsRecorded(t *testing.T) {
	for name, tc := range map[string]struct {
		// broken is the page, from 1, that cannot be read.
		broken  int
		outcome string
		notes   int
	}{
		"whole":   {outcome: "success", notes: 41},
		"cut off": {broken: 3, outcome: "incomplete", notes: 40},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, open storetest.Open) {
				out := &breakable{}
				s := newService(t, open, true, withTrail(t, out))
				token := s.signIn(t, "alice")
				s.fill(t, token, 41)
				page := 0
				s.pages.wait = func(context.Context, string) error {
					if page++; page == tc.broken {
						return errors.New("broken")
					}
					return nil
				}
				w := recorder{httptest.NewRecorder()}
				request := httptest.NewRequest(http.MethodGet, "/api/account/export", nil)
				request.Header.Set("Authorization", "Bearer "+token)
				s.Config.Handler.ServeHTTP(w, request)
				records := out.records(t)
				intent, outcome := records[len(records)-2], records[len(records)-1]
				if intent.Outcome != "intent" || intent.User == "" || intent.RequestID != outcome.RequestID {
					t.Errorf("the line before: %+v", intent)
				}
				got := fmt.Sprintf("%s %d %d %d", outcome.Outcome, outcome.Status, outcome.Notes, outcome.Bytes)
				if want := fmt.Sprintf("%s 200 %d %d", tc.outcome, tc.notes, w.Body.Len()); got != want {
					t.Errorf("outcome, status, notes and bytes are %s, want %s", got, want)
				}
			})
		})
	}
}

// TestChangeOutlivesItsClient: if a client disconnects just before its change is committed, a
// committed change is not recorded as an error.
func TestChangeOutlivesItsClient(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		out := &breakable{}
		s := newService(t, open, true, withTrail(t, out))
		token := s.signIn(t, "alice")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"mine"}`).body["id"].(string)
		ctx, hangUp := context.WithCancel(t.Context())
		s.pages.updating = hangUp
		request := httptest.NewRequest(http.MethodPut, "/api/notes/"+id, strings.NewReader(`{"content":"changed"}`)).WithContext(ctx)
		request.Header.Set("Authorization", "Bearer "+token)
		s.Config.Handler.ServeHTTP(httptest.NewRecorder(), request)
		s.pages.updating = nil
		records := out.records(t)
		if last := records[len(records)-1]; last.Action != "note.update" || last.Outcome != "success" {
			t.Errorf("recorded as %s %s", last.Action, last.Outcome)
		}
		if got := s.call(t, "GET", "/api/notes/"+id, token, "").body["content"]; got != "changed" {
			t.Errorf("the note is %q", got)
		}
	})
}
