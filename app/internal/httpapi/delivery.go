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

// deliver sends every answer. It first writes the audit line, and only then the first byte of the
// answer. Until then the answer is held in memory, unless its handler streams it: see
// [heldAnswer.stream]. If the audit line cannot be written, the answer is dropped.
func (h *handlers) deliver(c *gin.Context) {
	a := hold(h, c)
	defer a.release()
	c.Next()
	memory := &reservation{pool: h.answers, user: memoryUser(c)}
	defer memory.release()
	// Reserved before the audit line, which must record the answer that the client gets. The answer
	// to a change is sent in any case.
	if !a.intended {
		if err := memory.Reserve(len(a.body)); err != nil {
			a.reset()
			h.fail(c, err)
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
		memory.setPreempt(func() { _ = control.SetWriteDeadline(time.Now()) }) // an error means that the client is gone
		defer memory.setPreempt(nil)
	}
	a.send()
}

// memoryUser returns for whom the memory of an answer counts: for the user if the session is live,
// otherwise for the client's address.
func memoryUser(c *gin.Context) string {
	if value, ok := c.Get(identityKey); ok && sessionOutcome(c) == ratelimit.Proved {
		return value.(sessions.Identity).Owner
	}
	return clientaddress.Network(c.ClientIP())
}

// heldAnswer is the answer to a request, and what the audit log records of it.
type heldAnswer struct {
	gin.ResponseWriter
	h *handlers
	c *gin.Context
	// action is the action in the audit log; it is empty if the request is not audited.
	action string

	body    []byte
	status  int
	written bool
	// intended means that the line of intent is written. user and object are what it named.
	intended     bool
	user, object string
	// streams means that everything written is sent at once, and complete that it was sent to the
	// end.
	streams, complete bool
	// notes is how many notes were sent.
	notes int
	// whenSent is called when the answer has been sent or dropped.
	whenSent []func()
}

var heldAnswers = sync.Pool{New: func() any { return new(heldAnswer) }}

// maxPooled bounds the buffers that are reused for other answers, in bytes.
const maxPooled = 16 << 10

func hold(h *handlers, c *gin.Context) *heldAnswer {
	a := heldAnswers.Get().(*heldAnswer)
	a.ResponseWriter, a.h, a.c, a.status = c.Writer, h, c, c.Writer.Status()
	c.Writer = a
	a.action, _ = auditedAs(c)
	if a.writes() {
		// The stores of recorded.go find it in the context.
		c.Request = c.Request.WithContext(context.WithValue(c.Request.Context(), heldKey{}, a))
	}
	return a
}

// heldKey is the heldAnswer in the context of a request that may change something.
type heldKey struct{}

func (a *heldAnswer) release() {
	for _, f := range a.whenSent {
		f()
	}
	body, shared := a.body[:0], a.writes()
	if cap(body) > maxPooled {
		body = nil
	}
	*a = heldAnswer{body: body}
	if !shared { // otherwise a context still refers to it
		heldAnswers.Put(a)
	}
}

// whenSent arranges for f to be called when the answer has been sent or dropped.
func whenSent(c *gin.Context, f func()) {
	a := c.Writer.(*heldAnswer)
	a.whenSent = append(a.whenSent, f)
}

// writes reports whether the request is one that changes something.
func (a *heldAnswer) writes() bool {
	method := a.c.Request.Method
	return a.action != "" && method != http.MethodGet && method != http.MethodHead
}

// errNoIntent means that a handler has changed something without a line of intent. That is a bug.
var errNoIntent = errors.New("a change was made without a line of intent in the audit log")

// intend writes the line of intent of the request of ctx, once, before the request commits
// anything. user and object may be empty if they are unknown. It returns the context for the
// commit. A client that disconnects does not cancel that: otherwise a committed change would be
// recorded as an error. Errors: audit.ErrUnavailable.
func intend(ctx context.Context, user, object string) (_ context.Context, done context.CancelFunc, err error) {
	a, ok := ctx.Value(heldKey{}).(*heldAnswer)
	if !ok || a.c == nil { // the request does not write, or was answered already
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

// stream writes the line of intent. From then on everything written is sent at once. Errors:
// audit.ErrUnavailable.
func (a *heldAnswer) stream() error {
	if err := a.intend("", ""); err != nil {
		return err
	}
	a.ResponseWriter.WriteHeader(a.status)
	a.streams = true
	return nil
}

// record writes the audit line of the answer. It replaces an answer that must not be sent by an
// error.
func (a *heldAnswer) record() error {
	if a.action == "" {
		return nil
	}
	if a.writes() && !a.intended && a.status < http.StatusBadRequest {
		a.reset()
		a.h.fail(a.c, errNoIntent)
	}
	err := a.h.record(a.c, a.event(a.outcome()))
	if err != nil && !a.streams {
		a.reset()
		a.h.fail(a.c, err)
	}
	return err
}

// reset drops the handler's answer. It reports false if the answer was sent already.
func (a *heldAnswer) reset() bool {
	if a.streams {
		return false
	}
	a.body, a.status, a.written = a.body[:0], http.StatusOK, false
	header := a.Header()
	for name := range header {
		// Whether a browser may read the answer does not depend on the answer.
		if !strings.HasPrefix(name, "Access-Control-") && name != "Vary" {
			delete(header, name)
		}
	}
	header.Set("X-Request-Id", a.c.GetString(requestIDKey))
	securityHeaders(a.c)
	return true
}

// send sends the answer that was held.
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

// Unwrap returns the connection's writer, on which http.ResponseController sets deadlines.
func (a *heldAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
