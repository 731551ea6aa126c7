package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/audit"
)

type unsigned struct{}

func (unsigned) Sign(context.Context, []byte) (string, error) { return "", errors.New("no signer") }

// TestHeldAnswers: whatever a handler does, the client gets a complete answer that has the headers
// of every answer and is the one in the audit log.
func TestHeldAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		method, path string
		handler      func(*gin.Context) error
		status       int
		length       string
		body         string
		recorded     string
	}{
		"body": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error { c.String(200, "x"); return nil }, status: 200, length: "1", body: "x", recorded: "success 200"},
		"body in parts": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error {
			_, _ = c.Writer.WriteString("a")
			c.Writer.Flush()
			_, _ = c.Writer.Write([]byte("b"))
			c.Status(500) // too late, as in net/http
			return nil
		}, status: 200, length: "2", body: "ab", recorded: "success 200"},
		"nothing":      {method: "GET", path: "/api/notes", handler: func(*gin.Context) error { return nil }, status: 200, length: "0", recorded: "success 200"},
		"no content":   {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error { c.AbortWithStatus(204); return nil }, status: 204, recorded: "success 204"},
		"not modified": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error { c.Status(304); return nil }, status: 304, recorded: "success 304"},
		"HEAD":         {method: "HEAD", path: "/head", handler: func(c *gin.Context) error { c.String(200, "xyz"); return nil }, status: 200, length: "3"},
		"error":        {method: "GET", path: "/api/notes", handler: func(*gin.Context) error { return &apiError{status: 403, message: "No"} }, status: 403, length: "any", body: `"error":"No"`, recorded: "denied 403"},
		"panic":        {method: "GET", path: "/api/notes", handler: func(*gin.Context) error { panic("secret") }, status: 500, length: "any", body: "Internal server error", recorded: "error 500"},
		"panic after a part": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error {
			c.Header("ETag", `"1"`)
			c.String(201, "part")
			panic("secret")
		}, status: 500, length: "any", body: "Internal server error", recorded: "error 500"},
		"streamed": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error {
			a := c.Writer.(*heldAnswer)
			if err := a.stream(); err != nil {
				panic(err)
			}
			_, _ = c.Writer.WriteString("part")
			a.notes, a.complete = 7, true
			return nil
		}, status: 200, length: "any", body: "part", recorded: "intent 0, success 200 7 4"},
		"panic in a stream": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error {
			if err := c.Writer.(*heldAnswer).stream(); err != nil {
				panic(err)
			}
			_, _ = c.Writer.WriteString("part")
			panic("secret")
		}, status: 200, length: "any", body: "part", recorded: "intent 0, incomplete 200 0 4"},
		"write": {method: "POST", path: "/api/notes", handler: func(c *gin.Context) error {
			if _, _, err := intend(c.Request.Context(), "u", "o"); err != nil {
				panic(err)
			}
			c.String(201, "x")
			return nil
		}, status: 201, length: "1", body: "x", recorded: "intent 0, success 201"},
		"write that was refused": {method: "POST", path: "/api/notes", handler: func(*gin.Context) error { return badRequest("No") }, status: 400, length: "any", body: "No", recorded: "denied 400"},
		"write without intent":   {method: "POST", path: "/api/notes", handler: func(c *gin.Context) error { c.String(201, "x"); return nil }, status: 500, length: "any", body: "Internal server error", recorded: "error 500"},
		"change in a read": {method: "GET", path: "/api/notes", handler: func(c *gin.Context) error {
			if _, _, err := intend(c.Request.Context(), "u", "o"); err == nil {
				c.String(200, "changed")
				return nil
			}
			return &apiError{status: 500, message: "No"}
		}, status: 500, length: "any", body: "No", recorded: "error 500"},
	} {
		t.Run(name, func(t *testing.T) {
			gin.SetMode(gin.ReleaseMode)
			var out, log bytes.Buffer
			trail, err := audit.New(&out, "d1", unsigned{}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			s := Service{Audit: trail, Log: slog.New(slog.NewTextHandler(&log, nil))}
			h := &handlers{Service: s, answers: newPool(maxLarge, maxUserLarge), failures: newFailures(s.Log)}
			engine := gin.New()
			seen := 0
			engine.Use(requestID, securityHeaders, func(c *gin.Context) { c.Next(); seen = c.Writer.Status() }, h.deliver, h.recoverPanic)
			engine.Handle(tc.method, tc.path, h.handle(tc.handler))
			server := httptest.NewServer(engine)
			defer server.Close()
			request, err := http.NewRequestWithContext(t.Context(), tc.method, server.URL+tc.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != tc.status || !strings.Contains(string(body), tc.body) || tc.length != "any" && string(body) != tc.body {
				t.Errorf("status %d, body %q; want %d, %q", response.StatusCode, body, tc.status, tc.body)
			}
			if length := response.Header.Get("Content-Length"); tc.length != "any" && length != tc.length {
				t.Errorf("Content-Length %q, want %q", length, tc.length)
			}
			for _, name := range []string{"X-Request-Id", "X-Frame-Options", "Content-Security-Policy", "Cache-Control"} {
				if response.Header.Get(name) == "" {
					t.Errorf("the answer lacks header %s", name)
				}
			}
			if tc.status == 500 && response.Header.Get("ETag") != "" {
				t.Error("the answer still has headers of the dropped one")
			}
			if got := recordedIn(t, out.String()); got != tc.recorded || seen != tc.status {
				t.Errorf("recorded as %q and measured as %d, want %q and %d", got, seen, tc.recorded, tc.status)
			}
			if strings.Contains(log.String(), "secret") {
				t.Errorf("the log contains the value of the panic: %s", log.String())
			}
		})
	}
}

// recordedIn returns the outcome, status and amounts of each audit line after the first.
func recordedIn(t *testing.T, text string) string {
	t.Helper()
	var all []string
	for line := range strings.Lines(text) {
		var r audit.Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Sequence == 0 {
			continue
		}
		one := fmt.Sprintf("%s %d", r.Outcome, r.Status)
		if r.Bytes > 0 {
			one += fmt.Sprintf(" %d %d", r.Notes, r.Bytes)
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}
