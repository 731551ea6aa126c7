package destination

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// idleTimeout ends a transfer in which no byte moves.
const idleTimeout = 2 * time.Minute

// maxAnswer bounds the body of an answer, except that of a file.
const maxAnswer = 2 << 20

// maxTags bounds the XML tags of such an answer. The client takes about 1 KiB for each object of a
// list, even for an empty one, whose tag has few bytes.
const maxTags = 30_000

// maxPage bounds the names of one page of a list. Each takes at most about 4 KiB of the answer.
const maxPage = 250

// maxRequests bounds the requests of one operation: a file has at most maxParts, each with retries.
const maxRequests = 10 * maxParts

// errIdle ends an operation.
var errIdle = errors.New("no byte was transferred")

// errTooManyRequests ends an operation with a server whose lists do not end.
var errTooManyRequests = errors.New("the server needs too many requests")

// newTransport returns a transport without HTTP/2, so that each transfer has a connection.
func newTransport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: 30 * time.Second,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if caFile == "" {
		return t, nil
	}
	raw, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read the CA certificates of the destination: %w", err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("read the CA certificates of the destination: %s has no certificate in PEM", caFile)
	}
	return t, nil
}

// operation is one call of a method of a bucket, with all its requests and their retries.
type operation struct {
	cancel context.CancelCauseFunc
	// idle is how long no byte may move.
	idle time.Duration
	// file is true if the operation reads a file, whose size is not bounded.
	file bool

	sync.Mutex
	// all counts the requests, and attempts those since the last call of fresh.
	all, attempts int
	// failed is the last error of the connection.
	failed error
}

type operationKey struct{}

// begin starts an operation. Its context must be passed to the client, and it must be ended.
func begin(ctx context.Context, idle time.Duration) (context.Context, *operation) {
	ctx, cancel := context.WithCancelCause(ctx)
	op := &operation{cancel: cancel, idle: idle}
	return context.WithValue(ctx, operationKey{}, op), op
}

func (o *operation) end() { o.cancel(nil) }

// fresh resets the count of attempts.
func (o *operation) fresh() {
	o.Lock()
	defer o.Unlock()
	o.attempts = 0
}

// repeated reports whether a request was sent more than once since the last call of fresh.
func (o *operation) repeated() bool {
	o.Lock()
	defer o.Unlock()
	return o.attempts > 1
}

// request counts a request.
func (o *operation) request() error {
	o.Lock()
	defer o.Unlock()
	o.all++
	o.attempts++
	o.failed = nil
	if o.all > maxRequests {
		return errTooManyRequests
	}
	return nil
}

// fail records an error of the connection, and ends the operation if a retry is useless.
func (o *operation) fail(err error) {
	o.Lock()
	defer o.Unlock()
	o.failed = transportCause(err)
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		o.cancel(o.failed)
	}
}

func (o *operation) failure() error {
	o.Lock()
	defer o.Unlock()
	return o.failed
}

// transportCause removes the URL from an error: the caller names the object.
func transportCause(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}

// watched is a transport that ends operations in which no byte moves. The client retries whatever
// its transport returns, so an operation ends by its context.
type watched struct{ http.RoundTripper }

// RoundTrip sends a request.
func (w watched) RoundTrip(r *http.Request) (*http.Response, error) {
	op, ok := r.Context().Value(operationKey{}).(*operation)
	if !ok {
		return nil, errors.New("a request outside of an operation")
	}
	if err := op.request(); err != nil {
		op.cancel(err)
		return nil, err
	}
	watch := time.AfterFunc(op.idle, func() { op.cancel(fmt.Errorf("%w for %s", errIdle, op.idle)) })
	defer watch.Stop()
	if r.Body != nil {
		r = r.WithContext(r.Context()) // a copy: a transport must not change the request
		r.Body = &sent{r.Body, op, watch}
	}
	answer, err := w.RoundTripper.RoundTrip(r)
	if err != nil {
		op.fail(err)
		return nil, err
	}
	answer.Body = &received{ReadCloser: answer.Body, op: op, watch: watch, left: maxAnswer, file: op.file && isFile(r, answer)}
	return answer, nil
}

// isFile reports whether an answer of an operation that reads a file is that file. The others are
// errors, and the region of the bucket, which the client asks for in the query.
func isFile(r *http.Request, answer *http.Response) bool {
	return r.URL.RawQuery == "" && (answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusPartialContent)
}

// sent is the body of a request.
type sent struct {
	io.ReadCloser
	op    *operation
	watch *time.Timer
}

// Read returns bytes to send: those before have been sent.
func (s *sent) Read(p []byte) (int, error) {
	s.watch.Reset(s.op.idle)
	return s.ReadCloser.Read(p)
}

// received is the body of an answer.
type received struct {
	io.ReadCloser
	op    *operation
	watch *time.Timer
	left  int64
	tags  int
	file  bool
}

// Read watches only while it waits for the server, and not while its caller works.
func (r *received) Read(p []byte) (int, error) {
	if !r.file && (r.left <= 0 || r.tags > maxTags) {
		err := fmt.Errorf("the answer has more than %d bytes or %d XML tags", maxAnswer, maxTags)
		r.op.fail(err)
		return 0, err
	}
	r.watch.Reset(r.op.idle)
	n, err := r.ReadCloser.Read(p)
	r.watch.Stop()
	if !r.file {
		r.left -= int64(n)
		r.tags += bytes.Count(p[:n], []byte("<"))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.op.fail(err)
	}
	return n, err
}
