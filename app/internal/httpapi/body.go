package httpapi

import (
	"io"
	"net/http"

	"github.com/gin-gonic/gin"
	"golang.org/x/sync/semaphore"
)

const (
	// maxBody bounds a body that holds a note, in bytes: 100,000 characters, each at most 12 bytes when
	// escaped in JSON, and room for the rest.
	maxBody = 1_400_000
	// maxSmallBody bounds every other body: credentials, of at most 256 characters each.
	maxSmallBody = 8 << 10
	// maxBodiesInMemory bounds the bodies of all requests under way, in bytes, so that many large ones at
	// once are answered 503 and do not end the process.
	maxBodiesInMemory = 64 << 20
)

// limitBody bounds the body of a request that carries no note.
func limitBody(c *gin.Context) {
	c.Request.Body = http.MaxBytesReader(c.Writer, c.Request.Body, maxSmallBody)
}

// limitNote bounds the body of a request that carries a note, and counts what has arrived of it against
// the memory that all such requests share, until the request has been answered.
func limitNote(memory *semaphore.Weighted) gin.HandlerFunc {
	return func(c *gin.Context) {
		body := &meteredBody{ReadCloser: c.Request.Body, memory: memory}
		defer body.release()
		c.Request.Body = http.MaxBytesReader(c.Writer, body, maxBody)
		c.Next()
	}
}

type meteredBody struct {
	io.ReadCloser
	memory *semaphore.Weighted
	held   int64
}

// Read takes memory for what it has read, and fails when there is none.
func (b *meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		if !b.memory.TryAcquire(int64(n)) {
			return 0, errBusy
		}
		b.held += int64(n)
	}
	return n, err
}

func (b *meteredBody) release() { b.memory.Release(b.held) }
