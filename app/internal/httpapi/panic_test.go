package httpapi_test

import (
	"strings"
	"testing"

	"github.com/securenotes/securenotes/app/internal/httpapi"
	"github.com/securenotes/securenotes/app/internal/storetest"
)

// TestPanic: a panic ends only its own request, with 500. It is logged once and without its value.
func TestPanic(t *testing.T) {
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		t.Run("handler", func(t *testing.T) {
			s := newService(t, open, true, func(s *httpapi.Service) { s.Notes = nil })
			token := s.signIn(t, "alice")
			s.call(t, "POST", "/api/notes", token, `{"content":"my own secret"}`).want(t, "panic", 500, "Internal server error")
			s.call(t, "GET", "/api/auth/sessions", token, "").want(t, "afterwards", 200, "")
			if log := s.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "msg=panic") || strings.Contains(log, "my own secret") {
				t.Errorf("log: %s", log)
			}
		})
	})
	storetest.Each(t, func(t *testing.T, open storetest.Open) {
		t.Run("shared call of the key provider", func(t *testing.T) {
			s := newService(t, open, true)
			token := s.signIn(t, "alice")
			s.provider.panics = true
			s.call(t, "POST", "/api/notes", token, `{"content":"my own secret"}`).want(t, "panic", 500, "Internal server error")
			s.provider.panics = false
			s.call(t, "POST", "/api/notes", token, `{"content":"my own secret"}`).want(t, "afterwards", 201, "")
			if log := s.log.String(); strings.Count(log, "level=ERROR") != 1 || !strings.Contains(log, "panic of type string") || strings.Contains(log, "secret") {
				t.Errorf("log: %s", log)
			}
		})
	})
}
