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

// fewRequests is how many an address may have under way even when the process has too many.
const fewRequests = 4

// verdict is what becomes of a request.
type verdict int

const (
	serveIt verdict = iota
	refuseIt
	// cutOff: the client goes on although it is refused, or does not read the refusals.
	cutOff
	// closedAlready: the connection has been closed meanwhile.
	closedAlready
)

// begin counts a request of the connection.
func (t *connections) begin(c *conn) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.gone {
		return closedAlready
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
	// An address with few requests is served in any case: others do not use up its turn.
	over := t.requests >= t.bounds.requests && g.requests >= fewRequests || address >= t.bounds.requestsPerAddress
	t.unfile(c)
	c.requests++
	g.requests++
	t.requests++
	if over {
		return refuseIt
	}
	return serveIt
}

// underWay is a request that is under way.
type underWay struct {
	conn             *conn
	ended, abandoned bool
}

// end is the opposite of begin.
func (t *connections) end(r *underWay) {
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
		t.file(c)
		t.giveBack(c)
	}
}

// abandon notes that the client has given up a request that is still in the handler. Such a request
// is no stream any more, so that net/http accepts others in its place and keeps up to four times
// [maxStreams] of them in memory: only few connections may be in that state.
func (t *connections) abandon(r *underWay) {
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

// bounded lets next handle a request if there are not too many under way in the process, or of the
// client's address. What net/http still has to send when the handler has returned, 4 KiB at the
// most, is part of the connection's share in [connections.active].
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
		}
		if v == cutOff || v == closedAlready {
			panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to end a request without an answer
		}
		request := &underWay{conn: c}
		defer c.owner.end(request)
		if r.ProtoMajor == 2 {
			stop := context.AfterFunc(r.Context(), func() { c.owner.abandon(request) })
			defer stop()
		}
		if v == refuseIt {
			refused()
			refuse(w, headers)
			// It counts until the client has read it: who goes on without reading is cut off.
			_ = http.NewResponseController(w).Flush()
			return
		}
		next.ServeHTTP(w, r)
	})
}

// refuse answers in the form of the API's errors.
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
