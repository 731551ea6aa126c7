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
	// maxBody bounds a body that holds a note, in bytes: 100,000 characters, each at most 12 bytes
	// when escaped in JSON, and the other fields.
	maxBody = 1_400_000
	// maxSmallBody bounds every other body, in bytes: credentials, of at most 256 characters each.
	maxSmallBody = 8 << 10
	// bodyGrace is how long a body of any size may take. After that it must bring bodyRate bytes a
	// second: a client that sends more slowly would hold memory for too long.
	bodyGrace, bodyRate = 10 * time.Second, 8 << 10
	// bodyStep is how many bytes arrive before the deadline is moved again, so that a small body
	// sets it only once.
	bodyStep = 64 << 10
)

// limitBody bounds the body of a request that carries no note.
func limitBody(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, newPacedBody(c.Writer, c.Request), maxSmallBody)
}

// limitNote bounds the body of a request that carries a note. It reserves what arrives of the body
// from the memory that all such requests share, until the request is answered. The session must be
// live before a large body is read: otherwise an invalid token could use up the memory budget of
// its former user.
func (h *handlers) limitNote(c *gin.Context) error {
	if c.Request.ContentLength < 0 || c.Request.ContentLength > smallSize {
		if _, err := h.Accounts.User(c.Request.Context(), identity(c)); err != nil {
			c.Header("Connection", "close") // the body stays unread
			return err
		}
		c.Set(sessionLiveKey, true)
	}
	memory := &reservation{pool: h.bodies, user: identity(c).Owner, mayWait: true}
	defer memory.release()
	body := newPacedBody(c.Writer, c.Request)
	body.memory = memory
	memory.setPreempt(body.cutOff)
	c.Request.Body = http.MaxBytesReader(c.Writer, body, maxBody)
	c.Next()
	return nil
}

// pacedBody is a request's body that must arrive at a minimum rate.
type pacedBody struct {
	io.ReadCloser
	control *http.ResponseController
	start   time.Time
	// arrived counts bytes. The deadline moves when arrived reaches moveAt.
	arrived, moveAt int
	// memory, if it is not nil, is what the bytes that arrive are reserved from.
	memory *reservation
	// isCutOff means that the rest of the body is not waited for.
	isCutOff atomic.Bool
}

func newPacedBody(w http.ResponseWriter, r *http.Request) *pacedBody {
	return &pacedBody{ReadCloser: r.Body, control: http.NewResponseController(w), start: time.Now()}
}

// cutOff ends the wait for the rest of the body.
func (b *pacedBody) cutOff() {
	b.isCutOff.Store(true)
	_ = b.control.SetReadDeadline(time.Now()) // an error means that the client is gone
}

// Read implements io.Reader. Errors: os.ErrDeadlineExceeded when the body arrives too slowly;
// errUserBusy, errBusy.
func (b *pacedBody) Read(p []byte) (int, error) {
	if b.arrived >= b.moveAt {
		deadline := b.start.Add(bodyGrace + time.Duration(b.arrived)*time.Second/bodyRate)
		if err := b.control.SetReadDeadline(deadline); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			return 0, err
		}
		b.moveAt = b.arrived + bodyStep
	}
	if b.isCutOff.Load() { // checked after the deadline moved, which overwrites that of cutOff
		return 0, os.ErrDeadlineExceeded
	}
	n, err := b.ReadCloser.Read(p)
	if b.memory == nil {
		b.arrived += n
		return n, err
	}
	if err != nil {
		b.memory.setPreempt(nil) // the request no longer waits for its client
	}
	if n > 0 {
		if err := b.memory.Reserve(n); err != nil {
			return 0, err
		}
	}
	b.arrived += n
	return n, err
}
