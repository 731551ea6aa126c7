package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
)

// tenant is a user of generated requests. It remembers the values in the API's answers.
type tenant struct {
	username, password, token string
	// heard has the latest values of each field and header of the answers, by the path of the
	// answer.
	heard map[string]map[string][]string
}

// kept bounds how many values of a field are remembered.
const kept = 8

func (u *tenant) hear(path, name, value string) {
	if u.heard[path] == nil {
		u.heard[path] = map[string][]string{}
	}
	values := append(u.heard[path][name], value)
	u.heard[path][name] = values[max(0, len(values)-kept):]
}

// values returns what the tenant may put into a field or parameter of an operation: its
// credentials, and the values of a field with that name, or with a name that ends in it, in answers
// of the path or of one above it.
func (u *tenant) values(path, name string) []string {
	switch {
	case name == "username":
		return []string{u.username}
	case strings.HasSuffix(name, "password") && !strings.HasPrefix(name, "new"):
		return []string{u.password}
	case name == "code":
		return u.codes()
	case name == "If-Match":
		name = "ETag"
	}
	var all []string
	for ; path != ""; path = path[:strings.LastIndex(path, "/")] {
		for _, field := range sortedNames(u.heard[path]) {
			if field == name || strings.HasSuffix(field, "_"+name) {
				all = append(all, u.heard[path][field]...)
			}
		}
	}
	return all
}

// codes returns the codes that the tenant's app shows, and the recovery codes.
func (u *tenant) codes() []string {
	var all []string
	for _, path := range sortedNames(u.heard) {
		fields := u.heard[path]
		if seeds := fields["secret"]; len(seeds) > 0 {
			if code, err := totp.GenerateCode(seeds[len(seeds)-1], time.Now()); err == nil {
				all = append(all, code)
			}
		}
		all = append(all, fields["recovery_codes"]...)
	}
	return all
}

// hearAll remembers every text of an answer.
func (u *tenant) hearAll(path string, a answered) {
	if tag := a.Header.Get("ETag"); tag != "" {
		u.hear(path, "ETag", tag)
	}
	texts(a.body, func(name, text string) { u.hear(path, name, text) })
}

// hasHeard reports whether a recent answer to the tenant had the text.
func (u *tenant) hasHeard(text string) bool {
	for _, fields := range u.heard {
		for _, values := range fields {
			if slices.Contains(values, text) {
				return true
			}
		}
	}
	return false
}

// texts visits every text of a JSON body, or of one JSON value per line, with the name of its
// field.
func texts(body []byte, visit func(name, text string)) {
	for decoder := json.NewDecoder(bytes.NewReader(body)); ; {
		var value any
		if decoder.Decode(&value) != nil {
			return
		}
		textsOf(value, "", visit)
	}
}

func textsOf(value any, name string, visit func(name, text string)) {
	switch value := value.(type) {
	case string:
		visit(name, value)
	case []any:
		for _, item := range value {
			textsOf(item, name, visit)
		}
	case map[string]any:
		for _, field := range sortedNames(value) {
			textsOf(value[field], field, visit)
		}
	}
}

// newTenant returns a new user with two sessions and two notes.
func (w *world) newTenant(t testing.TB) *tenant {
	t.Helper()
	w.tenants++
	u := &tenant{
		username: fmt.Sprintf("%s-%d", canary, w.tenants), password: fmt.Sprintf("%s, the password of %d", canary, w.tenants),
		heard: map[string]map[string][]string{},
	}
	call := func(method, path string, status int, fields map[string]string) answered {
		t.Helper()
		a := w.send(t, request{method: method, path: path, token: u.token, body: encoded(fields)})
		if a.StatusCode != status {
			t.Fatalf("%s %s of a new user: status %d, want %d: %s", method, path, a.StatusCode, status, a.body)
		}
		u.hearAll(path, a)
		return a
	}
	credentials := map[string]string{"username": u.username, "password": u.password}
	call(http.MethodPost, "/api/auth/register", http.StatusCreated, credentials)
	for range 2 {
		if !w.login(t, u) {
			t.Fatalf("%s cannot log in", u.username)
		}
	}
	for range 2 {
		call(http.MethodPost, "/api/notes", http.StatusCreated, map[string]string{"content": canary + ", a note"})
	}
	call(http.MethodGet, "/api/auth/sessions", http.StatusOK, nil)
	return u
}

// login begins a session, with a code if needed, unless the account is deleted or its password was
// changed.
func (w *world) login(t testing.TB, u *tenant) bool {
	t.Helper()
	fields := map[string]string{"username": u.username, "password": u.password}
	for _, code := range append([]string{""}, u.codes()...) {
		if code != "" {
			fields["code"] = code
		}
		a := w.send(t, request{method: http.MethodPost, path: "/api/auth/login", body: encoded(fields)})
		var session struct{ Token string }
		if a.StatusCode == http.StatusOK && json.Unmarshal(a.body, &session) == nil && session.Token != "" {
			u.token = session.Token
			return true
		}
		if a.StatusCode != http.StatusUnauthorized {
			return false
		}
	}
	return false
}

// revive restores a tenant after a request that may have ended its session or account, or used up
// its budget.
func (w *world) revive(t testing.TB, at int, o operation, a answered) {
	t.Helper()
	u := w.users[at]
	if a.StatusCode != http.StatusTooManyRequests && w.steps-w.since[at] < requestsOfTenant {
		if o.method == http.MethodGet || a.StatusCode >= http.StatusBadRequest {
			return // nothing has changed
		}
		if w.alive(t, u) {
			return
		}
		w.ended = u.token
		if w.login(t, u) && w.alive(t, u) {
			return
		}
	}
	w.users[at], w.since[at] = w.newTenant(t), w.steps
}

// alive reports whether the tenant's session is live, and remembers which sessions exist.
func (w *world) alive(t testing.TB, u *tenant) bool {
	t.Helper()
	const path = "/api/auth/sessions"
	a := w.send(t, request{method: http.MethodGet, path: path, token: u.token})
	u.hearAll(path, a)
	return a.StatusCode == http.StatusOK
}

// escaped returns the path with values for its parameters.
func escaped(path string, values map[string]string) string {
	for name, value := range values {
		path = strings.ReplaceAll(path, "{"+name+"}", url.PathEscape(value))
	}
	return path
}
