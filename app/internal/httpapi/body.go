package httpapi

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"
)

const (
	// maxBody bounds a body that holds a note, in bytes: 100,000 characters, each at most 12 bytes when
	// escaped in JSON, and room for the rest.
	maxBody = 1_400_000
	// maxSmallBody bounds every other body, in bytes: credentials, of at most 256 characters each.
	maxSmallBody = 8 << 10
	// bodyGrace is how long a body may take without regard to its size, and bodyRate the bytes a
	// second that it must bring after that. A client that sends more slowly holds memory for nothing.
	bodyGrace, bodyRate = 10 * time.Second, 8 << 10
	// bodyStep is how many bytes arrive before the deadline is moved, so that a small body costs one
	// call.
	bodyStep = 64 << 10
)

// limitBody bounds the body of a request that carries no note.
func limitBody(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, newPacedBody(c.Writer, c.Request), maxSmallBody)
}

// limitNote bounds the body of a request that carries a note, and counts what has arrived of it
// against the memory that all such requests share, until the request has been answered. Before a
// large body is read the session must have proved alive: otherwise a void token could fill the
// share of its former user.
func (h *handlers) limitNote(c *gin.Context) {
	if c.Request.ContentLength < 0 || c.Request.ContentLength > smallSize {
		if _, err := h.Accounts.User(c.Request.Context(), identity(c)); err != nil {
			c.Header("Connection", "close") // the body stays unread
			h.failWith(c, err)
			return
		}
		c.Set(provedKey, true)
	}
	held := &room{of: h.bodies, user: identity(c).Owner, waits: true}
	defer held.leave()
	body := newPacedBody(c.Writer, c.Request)
	body.memory = held
	held.waitsFor(body.cutOff)
	c.Request.Body = http.MaxBytesReader(c.Writer, body, maxBody)
	c.Next()
}

// pacedBody is a request's body that must arrive at a least rate.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	begun   time.Time
	// arrived counts bytes; at moved the deadline is set again.
	arrived, moved int
	// memory, when it is not nil, is where what has arrived is taken from.
	memory *room
	// late: the rest of the body is not waited for.
	late atomic.Bool
}

func newPacedBody(w http.ResponseWriter, r *http.Request) *pacedBody {
	return &pacedBody{ReadCloser: r.Body, control: http.NewResponseController(w), begun: time.Now()}
}

// cutOff ends the wait for the rest of the body.
func (b *pacedBody) cutOff() {
	b.late.Store(true)
	_ = b.control.SetReadDeadline(time.Now()) // an error: the client is gone
}

// Read errors: os.ErrDeadlineExceeded when the body arrives too slowly; errOwnShare, errBusy.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.arrived >= b.moved {
		deadline := b.begun.Add(bodyGrace + time.Duration(b.arrived)*time.Second/bodyRate)
		if err := b.control.SetReadDeadline(deadline); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return 0, err
		}
		b.moved = b.arrived + bodyStep
	}
	if b.late.Load() { // after the deadline was moved, which would undo what cutOff did
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	if b.memory == nil {
		b.arrived += n
		return n, err
	}
	if err != nil {
		b.memory.waitsFor(nil) // from here on for nobody
	}
	if n > 0 {
		if err := b.memory.Take(n); err != nil {
			return 0, err
		}
	}
	b.arrived += n
	return n, err
}
