package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Replica is one way to the service.
type Replica struct {
	// URL of the API, without a path.
	URL string
	// HTTP verifies the service's certificate.
	HTTP *http.Client
}

// requestTimeout is longer than the service's own limit.
const requestTimeout = 25 * time.Second

// maxAnswer bounds an answer's body, in bytes.
const maxAnswer = 4 << 20

// request is one request of one user.
type request struct {
	method, path string
	token        string
	// ifMatch and idempotencyKey are headers; empty: left out.
	ifMatch, idempotencyKey string
	body                    any
}

// answer is what came back.
type answer struct {
	status int
	etag   string
	body   struct {
		ID         string
		Title      string
		Content    string
		Token      string
		Error      string
		NextCursor string `json:"next_cursor"`
		Notes      []struct{ ID string }
	}
}

// send makes a request. Error: there was no answer, or none that can be read.
func (r Replica) send(ctx context.Context, what request) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var body io.Reader
	if what.body != nil {
		raw, err := json.Marshal(what.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	out, err := http.NewRequestWithContext(ctx, what.method, r.URL+what.path, body)
	if err != nil {
		return nil, err
	}
	for name, value := range map[string]string{
		"If-Match": what.ifMatch, "Idempotency-Key": what.idempotencyKey, "Content-Type": "application/json",
	} {
		if value != "" {
			out.Header.Set(name, value)
		}
	}
	if what.token != "" {
		out.Header.Set("Authorization", "Bearer "+what.token)
	}
	response, err := r.HTTP.Do(out)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &answer{status: response.StatusCode, etag: response.Header.Get("ETag")}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&a.body); err != nil {
		return nil, fmt.Errorf("%s %s: status %d: %w", what.method, what.path, a.status, err)
	}
	return a, nil
}

// effectOf says what an answer to a write tells about its effect.
func effectOf(a *answer, err error) effect {
	switch {
	case err != nil:
		return unknown
	case a.status < 300:
		return acknowledged
	case a.status < 500:
		return refused
	default:
		return unknown
	}
}
