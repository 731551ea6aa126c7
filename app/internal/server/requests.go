package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// retryAfter is how long a client is asked to wait when too many requests are under way.
const retryAfter = 5 * time.Second

// verdict is what becomes of a request.
type verdict int

const (
	serveIt verdict = iota
	refuseIt
	// cutOff: the client goes on although it is refused, or does not read the refusals.
	cutOff
)

// begin counts a request of the connection.
func (t *connections) begin(c *conn) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone {
		return cutOff
	}
	g := c.group
	address := 0
	if !c.exempt {
		address = g.requests
	}
	if t.requests >= hardFactor*t.bounds.requests || address >= hardFactor*t.bounds.requestsPerAddress {
		t.forget(c)
		return cutOff
	}
	over := t.requests >= t.bounds.requests || address >= t.bounds.requestsPerAddress
	t.unfile(c)
	c.requests++
	g.requests++
	t.requests++
	if over {
		return refuseIt
	}
	return serveIt
}

// end is the opposite of begin. abandoned says whether [connections.abandon] was called for the request.
func (t *connections) end(c *conn, abandoned bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone {
		return
	}
	c.requests--
	c.group.requests--
	t.requests--
	if abandoned {
		if c.abandoned--; c.abandoned == 0 {
			t.abandoned--
		}
	}
	if c.requests == 0 {
		t.file(c)
		t.giveBack(c)
	}
}

// abandon notes that the client has given up a request that is still in the handler. Such a request
// is no stream any more, so that net/http accepts others in its place and keeps up to four times
// [maxStreams] of them in memory: only few connections may be in that state.
func (t *connections) abandon(c *conn) {
	t.mu.Lock()
	if c.gone {
		t.mu.Unlock()
		return
	}
	if c.abandoned++; c.abandoned == 1 {
		t.abandoned++
	}
	over := t.abandoned > t.bounds.abandoned
	if over {
		t.forget(c)
	}
	t.mu.Unlock()
	if over {
		t.close([]victim{{c, reasonAbandoned}})
	}
}

// bounded lets next handle a request if there are not too many under way in the process, or of the
// client's address. A request is under way until its answer has been handed to the connection: net/http
// keeps the last 4 KiB until the handler has returned, and over HTTP/2 the client decides when they
// are sent.
func bounded(next http.Handler, refused func(), headers func(http.Header)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		v := c.owner.begin(c)
		if v == cutOff {
			c.owner.close([]victim{{c, reasonRequests}})
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to end a request without an answer
		}
		defer follow(r, c)()
		if v == refuseIt {
			refused()
			refuse(w, headers)
		} else {
			next.ServeHTTP(w, r)
		}
		if r.ProtoMajor == 2 {
			_ = http.NewResponseController(w).Flush() // an error is the client's, who has gone
		}
	})
}

// follow returns what ends the count of a request.
func follow(r *http.Request, c *conn) (end func()) {
	if r.ProtoMajor < 2 {
		return func() { c.owner.end(c, false) }
	}
	abandoned := make(chan struct{})
	stop := context.AfterFunc(r.Context(), func() {
		c.owner.abandon(c)
		close(abandoned)
	})
	return func() {
		if stop() {
			c.owner.end(c, false)
			return
		}
		<-abandoned
		c.owner.end(c, true)
	}
}

// refuse answers in the form of the API's errors.
func refuse(w http.ResponseWriter, headers func(http.Header)) {
	id := uuid.NewString()
	body, err := json.Marshal(map[string]string{"error": "Too many requests at once, try again later", "request_id": id})
	if err != nil { // two strings
		body = nil
	}
	h := w.Header()
	if headers != nil {
		headers(h)
	}
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
	h.Set("X-Request-Id", id)
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = w.Write(body)
}
