// Package notesclient is the client of the notes API that this repository's tests and tools share.
//
// Each call of the API is a method of [Client]. A call that the service refuses returns a
// [StatusError]; [Status] reads the status code from any error. [Client.Do] sends any other
// request, and returns the answer whatever its status is.
package notesclient

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 16 << 20

// Client calls the API of one service, with or without a user's session. It is safe for concurrent
// use.
type Client struct {
	url, token string
	http       *http.Client
}

// New returns a client without a session. url is the service's URL, without a path.
func New(url string, o Options) *Client {
	return &Client{url: url, http: o.HTTPClient()}
}

// WithToken returns a client for the session of the token, which shares the connections of c.
func (c *Client) WithToken(token string) *Client {
	return &Client{url: c.url, token: token, http: c.http}
}

// Token returns the session's token, or "" if there is no session.
func (c *Client) Token() string { return c.token }

// Close closes idle connections, including those that other clients share.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Request is one request of the API.
type Request struct {
	Method, Path string
	// Body is sent as JSON, unless it is nil.
	Body any
	// IfMatch and IdempotencyKey are headers, which are omitted if empty.
	IfMatch, IdempotencyKey string
}

// Answer is what the service answered.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Message returns the error text in the body, or "" if there is none.
func (a *Answer) Message() string {
	var body struct{ Error string }
	_ = json.Unmarshal(a.Body, &body) // a body in another format has no error text
	return body.Error
}

// Do sends a request and returns the answer, whatever its status is. An error means that there was
// no complete answer.
func (c *Client) Do(ctx context.Context, r Request) (*Answer, error) {
	var body io.Reader
	if r.Body != nil {
		raw, err := json.Marshal(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, r.Method, c.url+r.Path, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if r.IfMatch != "" {
		request.Header.Set("If-Match", r.IfMatch)
	}
	if r.IdempotencyKey != "" {
		request.Header.Set("Idempotency-Key", r.IdempotencyKey)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	a := &Answer{Status: response.StatusCode, Header: response.Header}
	if a.Body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("%s %s: status %d: %w", r.Method, r.Path, a.Status, err)
	}
	return a, nil
}

// call sends a request, returns a [StatusError] unless the status is want, and decodes the answer
// into into, unless that is nil.
func (c *Client) call(ctx context.Context, r Request, want int, into any) (*Answer, error) {
	a, err := c.Do(ctx, r)
	if err != nil {
		return nil, err
	}
	if a.Status != want {
		return nil, newStatusError(r, a)
	}
	if into == nil {
		return a, nil
	}
	if err := json.Unmarshal(a.Body, into); err != nil {
		return nil, fmt.Errorf("%s %s: status %d: %w", r.Method, r.Path, a.Status, err)
	}
	return a, nil
}
