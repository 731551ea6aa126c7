package httpapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// answered is an answer whose body has been read.
type answered struct {
	*http.Response
	body []byte
}

// recorder is a response writer in memory. It has no connection and thus no timeouts.
type recorder struct{ *httptest.ResponseRecorder }

func (recorder) SetWriteDeadline(time.Time) error { return nil }

// send sends the request to the handler and checks what must hold for every answer.
func (w *world) send(t testing.TB, r request) answered {
	t.Helper()
	w.sent++
	target := r.path
	if r.query != "" {
		target += "?" + r.query
	}
	sent := httptest.NewRequest(r.method, target, strings.NewReader(r.body))
	for name, values := range r.header {
		for _, value := range values {
			sent.Header.Add(name, headerValue(value))
		}
	}
	if r.token != "" {
		sent.Header.Set("Authorization", "Bearer "+r.token)
	}
	if sent.Header.Get("X-Forwarded-For") == "" {
		// Every request has its own address, so that limits by address do not end the test.
		sent.Header.Set("X-Forwarded-For", fmt.Sprintf("2001:db8:%x:%x::1", w.sent>>16&0xffff, w.sent&0xffff))
	}
	sent.RemoteAddr = "127.0.0.1:1"
	writer := recorder{httptest.NewRecorder()}
	w.handler.ServeHTTP(writer, sent)
	a := answered{Response: writer.Result()}
	var err error
	if a.body, err = io.ReadAll(a.Body); err != nil {
		t.Fatal(err)
	}
	w.check(t, sent, r, a)
	if t.Failed() {
		t.Fatalf("the request was\n%v\nand the answer %d %v\n%.2000s", r, a.StatusCode, a.Header, a.body)
	}
	return a
}

func (w *world) check(t testing.TB, sent *http.Request, r request, a answered) {
	t.Helper()
	what := r.method + " " + r.path
	if a.StatusCode >= http.StatusInternalServerError {
		t.Errorf("%s: status %d although every part of the service is available", what, a.StatusCode)
	}
	hasSecurityHeaders(t, what, a.Header)
	if a.StatusCode >= http.StatusBadRequest {
		var fields map[string]any
		if err := json.Unmarshal(a.body, &fields); err != nil || fields["error"] == nil || fields["request_id"] != a.Header.Get("X-Request-Id") {
			t.Errorf("%s: error body %s", what, a.body)
		}
	}
	conforms(t, sent, r.body, a.Response, a.body, false)
	w.checkLogs(t, what, sent, a)
}

// checkLogs checks that the request left no secrets in the logs, and no failure that its answer
// does not report.
func (w *world) checkLogs(t testing.TB, what string, sent *http.Request, a answered) {
	t.Helper()
	secrets := []string{canary}
	if _, token, _ := strings.Cut(sent.Header.Get("Authorization"), " "); len(token) > 16 {
		secrets = append(secrets, token)
	}
	texts(a.body, func(_, text string) {
		// A single word that is neither an id nor a time is a token, a key or a code.
		_, notID := uuid.Parse(text)
		_, notTime := time.Parse(time.RFC3339, text)
		if notID != nil && notTime != nil && len(text) >= 10 && !strings.Contains(text, " ") {
			secrets = append(secrets, text)
		}
	})
	for name, log := range map[string]*bytes.Buffer{"log": w.service.log, "audit log": w.service.trail} {
		text := strings.ToLower(log.String())
		for _, secret := range secrets {
			if strings.Contains(text, strings.ToLower(secret)) {
				t.Errorf("%s: the %s holds %.100q: %s", what, name, secret, log)
			}
		}
		if strings.Contains(text, "level=error") || strings.Contains(text, "level=warn") {
			t.Errorf("%s: the %s tells of a failure: %s", what, name, log)
		}
		log.Reset()
	}
}
