package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/clientaddress"
	"github.com/securenotes/securenotes/app/internal/ratelimit"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// delivered sends every answer, in this order: the audit line is written, and only then the first
// byte goes out. An answer is held back in memory until then, unless its handler streams it: see
// [heldAnswer.stream]. Where the line cannot be written the answer is dropped.
func (h *handlers) delivered(c *gin.Context) {
	a := held(h, c)
	defer a.release()
	c.Next()
	memory := &room{of: h.answers, user: payer(c)}
	defer memory.leave()
	// Before the record, which is of what the client gets. What has been done is answered for in any
	// case.
	if !a.intended {
		if err := memory.Take(len(a.body)); err != nil {
			a.startOver()
			h.failWith(c, err)
		}
	}
	err := a.record()
	c.Writer = a.ResponseWriter
	if a.streams {
		if err != nil {
			h.failures.log(c, "the outcome of a streamed answer was not recorded", err)
		}
		return
	}
	if memory.large > 0 {
		control := http.NewResponseController(a.ResponseWriter)
		memory.waitsFor(func() { _ = control.SetWriteDeadline(time.Now()) }) // an error: the client is gone
		defer memory.waitsFor(nil)
	}
	a.send()
}

// payer returns whom the memory of an answer counts for: the user whose session has proved alive,
// else the client's address.
func payer(c *gin.Context) string {
	if value, ok := c.Get(identityKey); ok && provedBy(c) == ratelimit.Proved {
		return value.(sessions.Identity).Owner
	}
	return clientaddress.Network(c.ClientIP())
}

// heldAnswer is the answer to a request, and what the audit log is told of it.
type heldAnswer struct {
	gin.ResponseWriter
	h *handlers
	c *gin.Context
	// action is what the audit log calls the request; empty: it is not recorded.
	action string

	body    []byte
	status  int
	written bool
	// intended: the line of intent is written. It had these, where they were known.
	intended     bool
	user, object string
	// streams: what is written goes out at once. whole: it went out to the end. notes: how many did.
	streams, whole bool
	notes          int
	sent           []func()
}

var heldAnswers = sync.Pool{New: func() any { return new(heldAnswer) }}

// maxPooled bounds the buffers that are kept for other answers, in bytes.
const maxPooled = 16 << 10

func held(h *handlers, c *gin.Context) *heldAnswer {
	a := heldAnswers.Get().(*heldAnswer)
	a.ResponseWriter, a.h, a.c, a.status = c.Writer, h, c, c.Writer.Status()
	c.Writer = a
	a.action, _ = auditedAs(c)
	if a.writes() {
		// For the stores of the domain, which know no HTTP.
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), heldKey{}, a))
	}
	return a
}

// heldKey is the heldAnswer in the context of a request that may change something.
type heldKey struct{}

func (a *heldAnswer) release() {
	for _, f := range a.sent {
		f()
	}
	body, shared := a.body[:0], a.writes()
	if cap(body) > maxPooled {
		body = nil
	}
	*a = heldAnswer{body: body}
	if !shared { // else a context still names it
		heldAnswers.Put(a)
	}
}

// whenSent has f called when the answer has been sent or dropped.
func whenSent(c *gin.Context, f func()) {
	a := c.Writer.(*heldAnswer)
	a.sent = append(a.sent, f)
}

// writes reports whether the request is of those that change something.
func (a *heldAnswer) writes() bool {
	method := a.c.Request.Method
	return a.action != "" && method != http.MethodGet && method != http.MethodHead
}

// errNoIntent means that a handler has changed something without a line of intent, which no handler
// may.
var errNoIntent = errors.New("a change was made without a line of intent in the audit log")

// intend writes the line of intent of the request that ctx is of, once, and before anything of it
// is committed. user and object are as far as they are known. It returns the context for what is
// then committed, which a client that hangs up does not end: otherwise a change that was made would
// be recorded as an error. Errors: audit.ErrUnavailable.
func intend(ctx context.Context, user, object string) (_ context.Context, done context.CancelFunc, err error) {
	a, ok := ctx.Value(heldKey{}).(*heldAnswer)
	if !ok || a.c == nil { // no request that writes, or one that has been answered
		return nil, nil, errNoIntent
	}
	if err := a.intend(user, object); err != nil {
		return nil, nil, err
	}
	deadline, ok := ctx.Deadline()
	ctx = context.WithoutCancel(ctx)
	if !ok {
		return ctx, func() {}, nil
	}
	ctx, done = context.WithDeadline(ctx, deadline)
	return ctx, done, nil
}

func (a *heldAnswer) intend(user, object string) error {
	if a.intended {
		return nil
	}
	a.user, a.object = user, object
	if err := a.h.Audit.Write(a.event(audit.Intent)); err != nil {
		return err
	}
	a.intended = true
	return nil
}

// stream writes the line of intent and then lets the answer out as it is written. Errors:
// audit.ErrUnavailable.
func (a *heldAnswer) stream() error {
	if err := a.intend("", ""); err != nil {
		return err
	}
	a.ResponseWriter.WriteHeader(a.status)
	a.streams = true
	return nil
}

// record writes the audit line of the answer, or puts another answer in the place of one that may
// not go out.
func (a *heldAnswer) record() error {
	if a.action == "" {
		return nil
	}
	if a.writes() && !a.intended && a.status < http.StatusBadRequest {
		a.h.failures.log(a.c, "request failed", errNoIntent)
		a.startOver()
		fail(a.c, http.StatusInternalServerError, "Internal server error")
	}
	err := a.h.record(a.c, a.event(a.outcome()))
	if err != nil && !a.streams {
		a.startOver()
		a.h.failWith(a.c, err)
	}
	return err
}

// startOver drops what the handler has answered. It reports false when that has gone out.
func (a *heldAnswer) startOver() bool {
	if a.streams {
		return false
	}
	a.body, a.status, a.written = a.body[:0], http.StatusOK, false
	header := a.Header()
	for name := range header {
		// Whether a browser may read the answer does not depend on what it is.
		if !strings.HasPrefix(name, "Access-Control-") && name != "Vary" {
			delete(header, name)
		}
	}
	header.Set("X-Request-Id", a.c.GetString(requestIDKey))
	securityHeaders(a.c)
	return true
}

// send sends the answer that was held back.
func (a *heldAnswer) send() {
	out := a.ResponseWriter
	out.WriteHeader(a.status)
	noBody := a.status < http.StatusOK || a.status == http.StatusNoContent || a.status == http.StatusNotModified
	unknown := len(a.body) == 0 && a.c.Request.Method == http.MethodHead // of an export
	if !noBody && !unknown {
		out.Header().Set("Content-Length", strconv.Itoa(len(a.body)))
	}
	if len(a.body) == 0 {
		out.WriteHeaderNow()
		return
	}
	_, _ = out.Write(a.body) // an error means that the client is gone
}

// Write implements http.ResponseWriter.
func (a *heldAnswer) Write(p []byte) (int, error) {
	if a.streams {
		return a.ResponseWriter.Write(p)
	}
	a.written = true
	a.body = append(a.body, p...)
	return len(p), nil
}

// WriteString implements io.StringWriter.
func (a *heldAnswer) WriteString(s string) (int, error) { return a.Write([]byte(s)) }

// WriteHeader implements http.ResponseWriter.
func (a *heldAnswer) WriteHeader(status int) {
	switch {
	case a.streams:
		a.ResponseWriter.WriteHeader(status)
	case status > 0 && !a.written:
		a.status = status
	}
}

// WriteHeaderNow implements gin.ResponseWriter.
func (a *heldAnswer) WriteHeaderNow() {
	if a.streams {
		a.ResponseWriter.WriteHeaderNow()
	}
	a.written = true
}

// Flush implements http.Flusher.
func (a *heldAnswer) Flush() {
	if a.streams {
		a.ResponseWriter.Flush()
	}
}

// Status implements gin.ResponseWriter.
func (a *heldAnswer) Status() int {
	if a.streams {
		return a.ResponseWriter.Status()
	}
	return a.status
}

// Written implements gin.ResponseWriter.
func (a *heldAnswer) Written() bool { return a.streams || a.written }

// Size implements gin.ResponseWriter.
func (a *heldAnswer) Size() int {
	if a.streams {
		return a.ResponseWriter.Size()
	}
	return len(a.body)
}

// Unwrap is for http.ResponseController: deadlines are the connection's.
func (a *heldAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
