package httpapi_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// checked makes the server's client check every exchange against the document, and the headers of
// every answer, so that no test can forget it.
func checked(t testing.TB, server *httptest.Server) {
	client := server.Client()
	client.Transport = &checkedTransport{t, client.Transport}
}

type checkedTransport struct {
	t testing.TB
	http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c *checkedTransport) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := &recording{}
	wire := request
	if request.Body != nil {
		wire = request.Clone(request.Context())
		wire.Body = sent.of(request.Body)
	}
	response, err := c.RoundTripper.RoundTrip(wire)
	if err != nil {
		return nil, err
	}
	hasSecurityHeaders(c.t, request.Method+" "+request.URL.Path, response.Header)
	if outsideDocument(request) {
		return response, nil
	}
	received := &recording{}
	response.Body = &checkedBody{ReadCloser: received.of(response.Body), check: func() {
		valid := slices.Contains(answersToValid, response.StatusCode)
		conforms(c.t, request, sent.String(), response, []byte(received.String()), valid)
	}}
	return response, nil
}

// answersToValid are the statuses, besides success, that valid requests of the tests may get.
var answersToValid = []int{http.StatusConflict, http.StatusPreconditionFailed, http.StatusUnprocessableEntity}

// outsideDocument reports whether a request is not a call of the API: a page, or a preflight
// request of a browser.
func outsideDocument(request *http.Request) bool {
	return request.URL.Path == "/docs" || strings.HasPrefix(request.URL.Path, "/docs/") ||
		request.Method == http.MethodOptions && request.Header.Get("Access-Control-Request-Method") != ""
}

// recording stores what is read. It is safe for concurrent use: an answer may arrive before the
// whole request was sent.
type recording struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

// Write implements io.Writer.
func (r *recording) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.Write(p)
}

func (r *recording) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes.String()
}

func (r *recording) of(body io.ReadCloser) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(body, r), body}
}

// checkedBody reads the rest when it is closed. If the body is complete, it checks it.
type checkedBody struct {
	io.ReadCloser
	check func()
	once  sync.Once
}

// Close implements io.Closer.
func (b *checkedBody) Close() error {
	b.once.Do(func() {
		if _, err := io.Copy(io.Discard, b.ReadCloser); err == nil {
			b.check()
		}
	})
	return b.ReadCloser.Close()
}
