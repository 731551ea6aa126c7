package server

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"
)

// retryAfter is how long a client is asked to wait when too many requests are in flight.
const retryAfter = 5 * time.Second

// fewRequests is how many requests an address may have in flight even if the process has too many.
const fewRequests = 4

// verdict is what is done with a request.
type verdict int

const (
	verdictServe verdict = iota
	verdictRefuse
	// verdictClose is for clients that ignore refusals, or do not read them.
	verdictClose
	// verdictClosed means that the connection was closed already.
	verdictClosed
)

// begin counts a request of the connection as in flight.
func (t *connections) begin(c *conn) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone {
		return verdictClosed
	}
	g := c.group
	address := 0
	if !c.exempt {
		address = g.requests
	}
	if t.requests >= hardFactor*t.bounds.requests || address >= hardFactor*t.bounds.requestsPerAddress {
		t.forget(c)
		return verdictClose
	}
	// An address with few requests is served in any case, whatever other addresses do.
	over := t.requests >= t.bounds.requests && g.requests >= fewRequests || address >= t.bounds.requestsPerAddress
	t.removeIdle(c)
	c.requests++
	g.requests++
	t.requests++
	if over {
		return verdictRefuse
	}
	return verdictServe
}

// inFlight is a request in flight.
type inFlight struct {
	conn             *conn
	ended, abandoned bool
}

// end reverses begin.
func (t *connections) end(r *inFlight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.ended = true
	c := r.conn
	if c.gone {
		return
	}
	c.requests--
	c.group.requests--
	t.requests--
	if r.abandoned {
		if c.abandoned--; c.abandoned == 0 {
			t.abandoned--
		}
	}
	if c.requests == 0 {
		t.addIdle(c)
		t.releaseSlots(c)
	}
}

// abandon notes that the client has given up a request that is still in the handler. Such a request
// is no longer a stream: net/http accepts others in its place, and queues up to four times
// [maxStreams] of them in memory. So only few connections may be in that state.
func (t *connections) abandon(r *inFlight) {
	t.mu.Lock()
	c := r.conn
	if r.ended || c.gone {
		t.mu.Unlock()
		return
	}
	r.abandoned = true
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

// limitRequests calls next if there are not too many requests in flight, in the process and for the
// client's address. What net/http still has to send after the handler has returned, at most 4 KiB,
// is part of what a slot stands for; see [connections.active].
func limitRequests(next http.Handler, refused func(), headers func(http.Header)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _ := r.Context().Value(connKey{}).(*conn)
		if c == nil {
			next.ServeHTTP(w, r)
			return
		}
		v := c.owner.begin(c)
		if v == verdictClose {
			c.owner.close([]victim{{c, reasonRequests}})
		}
		if v == verdictClose || v == verdictClosed {
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to end a request without an answer
		}
		request := &inFlight{conn: c}
		defer c.owner.end(request)
		if r.ProtoMajor == 2 {
			stop := context.AfterFunc(r.Context(), func() { c.owner.abandon(request) })
			defer stop()
		}
		if v == verdictRefuse {
			refused()
			refuse(w, headers)
			// The refusal counts until it is read: a client that goes on without reading is cut
			// off.
			_ = http.NewResponseController(w).Flush()
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers with an error in the form of the API.
func refuse(w http.ResponseWriter, headers func(http.Header)) {
	id := uuid.NewString()
	body, err := json.Marshal(map[string]string{"error": "Too many requests in progress, try again later", "request_id": id})
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
