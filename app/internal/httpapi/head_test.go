package httpapi_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestHead checks that HEAD has the answer of GET without its body, and the same audit line.
func TestHead(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		log := &breakable{}
		s := newService(t, open, true, withTrail(t, log))
		token := s.signIn(t, "alice")
		note := s.call(t, "POST", "/api/notes", token, `{"content":"a note"}`).body["id"].(string)
		for path, action := range map[string]string{
			"/api/notes": "note.list", "/api/notes/" + note: "note.read", "/api/notes/7": "note.read",
			"/api/auth/sessions": "session.list", "/api/auth/totp": "second-factor.status", "/api/account/export": "account.export",
			"/api/openapi.yaml": "", "/docs": "", "/docs/style.css": "", "/nowhere": "", "/api/auth/login": "",
		} {
			ask := func(method string) (status int, header http.Header, body string, lines []audit.Record) {
				t.Helper()
				before := len(log.records(t))
				request, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Authorization", "Bearer "+token)
				response, err := s.Client().Do(request)
				if err != nil {
					t.Fatal(err)
				}
				defer response.Body.Close()
				raw, err := io.ReadAll(response.Body)
				if err != nil {
					t.Fatal(err)
				}
				response.Header.Del("Date")
				response.Header.Del("X-Request-Id")
				return response.StatusCode, response.Header, string(raw), log.records(t)[before:]
			}
			wantStatus, wantHeader, _, _ := ask(http.MethodGet)
			status, header, body, lines := ask(http.MethodHead)
			if status != wantStatus || body != "" {
				t.Errorf("HEAD %s: %d, body %q; GET: %d", path, status, body, wantStatus)
			}
			if diff := cmp.Diff(wantHeader, header); diff != "" {
				t.Errorf("HEAD %s: -GET +HEAD:\n%s", path, diff)
			}
			if action == "" && len(lines) > 0 || action != "" && (len(lines) != 1 || lines[0].Action != action) {
				t.Errorf("HEAD %s: audit lines %+v", path, lines)
			}
		}
	})
}
