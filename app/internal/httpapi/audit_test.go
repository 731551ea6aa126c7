package httpapi_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestAuditLines: a line names the user, the action, the address and the outcome, and contains
// nothing secret.
func TestAuditLines(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		token := s.signIn(t, "alice")
		s.login(t, "alice", "a wrong password")
		id := s.call(t, "POST", "/api/notes", token, `{"content":"the secret content","title":"the secret title"}`).body["id"].(string)
		s.call(t, "GET", "/api/notes/"+id, token, "")
		s.call(t, "GET", "/api/notes/"+id, "a.b.c.d.e", "")
		s.call(t, "DELETE", "/api/notes/"+id, token, "")
		s.call(t, "POST", "/api/auth/logout", token, "")
		s.call(t, "POST", "/api/auth/logout", token, "")

		type line struct{ Action, Outcome, Object string }
		var got []line
		user, tried := "", ""
		for text := range strings.Lines(s.trail.String()) {
			var r audit.Record
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if r.Outcome == audit.Intent {
				continue // see TestWritesHaveTwoLines
			}
			got = append(got, line{r.Action, r.Outcome, r.Object})
			if r.Action == "note.create" {
				user = r.User
			}
			if r.Action == "session.login" && r.Outcome == "denied" {
				tried = r.Username
			}
			if r.Action != "start" && (r.Address != "127.0.0.1" || r.RequestID == "") {
				t.Errorf("no address or request id: %s", text)
			}
		}
		want := []line{
			{"start", "", ""}, {"account.register", "success", ""}, {"session.login", "success", ""}, {"session.login", "denied", ""},
			{"note.create", "success", id}, {"note.read", "success", id}, {"note.read", "denied", id}, {"note.delete", "success", id},
			{"session.logout", "success", ""}, {"session.logout", "denied", ""},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		if user == "" || tried != s.usernames.Digest("alice") {
			t.Errorf("user %q, name that was tried %q", user, tried)
		}
		for _, secret := range []string{"secret", "password", "correct horse", token, "alice"} {
			if strings.Contains(s.trail.String(), secret) {
				t.Errorf("the audit log contains %q", secret)
			}
		}
	})
}

// TestLoginsNameTheirFactor: the line of a login names the second factor that was used. It names
// none if there was none or if it was refused.
func TestLoginsNameTheirFactor(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		s := newService(t, open, true)
		_, app, recovery := enrol(t, s) // it logs in without a second factor
		const password = "correct horse battery"
		s.login(t, "alice", password).want(t, "no code", 401, "")
		s.loginWith(t, "alice", password, app.wrong(t), "192.0.2.1").want(t, "a wrong code", 401, "")
		s.loginWith(t, "alice", password, app.code(t, 0), "192.0.2.2").want(t, "a code", 200, "")
		s.loginWith(t, "alice", password, recovery[0], "192.0.2.3").want(t, "a recovery code", 200, "")
		var got []string
		for text := range strings.Lines(s.trail.String()) {
			var r audit.Record
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			if r.Action == "session.login" && r.Outcome != audit.Intent {
				got = append(got, r.Outcome+" "+r.Factor)
			} else if r.Factor != "" {
				t.Errorf("a factor where there is no login: %s", text)
			}
		}
		if diff := cmp.Diff([]string{"success ", "denied ", "denied ", "success totp", "success recovery"}, got); diff != "" {
			t.Error(diff)
		}
	})
}
