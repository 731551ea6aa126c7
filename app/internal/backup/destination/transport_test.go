package destination

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// fakeServer is a transport. It reads a part of a request, waits, and sends an answer, each byte
// after a pause. After the last byte that it moves, it waits for the end of the context.
type fakeServer struct {
	pause          time.Duration
	reads, answers int
	// ends is true if the answer ends after its last byte.
	ends bool
}

func (f fakeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	for range f.reads {
		time.Sleep(f.pause)
		if _, err := r.Body.Read(make([]byte, 1)); err != nil {
			return nil, err
		}
	}
	if f.answers == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: http.StatusOK, Body: &fakeAnswer{fakeServer: f, ctx: r.Context()}}, nil
}

type fakeAnswer struct {
	fakeServer
	ctx context.Context
}

func (f *fakeAnswer) Close() error { return nil }

func (f *fakeAnswer) Read(p []byte) (int, error) {
	if f.answers > 0 {
		time.Sleep(f.pause)
		f.answers--
		p[0] = 'x'
		return 1, nil
	}
	if f.ends {
		return 0, io.EOF
	}
	<-f.ctx.Done()
	return 0, f.ctx.Err()
}

// TestIdleTransfersEnd checks with a fake clock that a transfer ends when no byte moves for
// idleTimeout, and not earlier.
func TestIdleTransfersEnd(t *testing.T) {
	t.Parallel()
	const almost = idleTimeout - time.Second
	for name, tc := range map[string]struct {
		server fakeServer
		// work is how long the caller works after each byte of the answer.
		work time.Duration
		// want is when the transfer ends, and idle whether it ends because no byte moved.
		want time.Duration
		idle bool
	}{
		"the server reads nothing":           {fakeServer{}, 0, idleTimeout, true},
		"the server stops reading":           {fakeServer{pause: almost, reads: 3}, 0, 3*almost + idleTimeout, true},
		"the answer stops":                   {fakeServer{pause: almost, reads: 1, answers: 2}, 0, 3*almost + idleTimeout, true},
		"every byte is slow":                 {fakeServer{pause: almost, reads: 9, answers: 9, ends: true}, 0, 18 * almost, false},
		"the caller works between two reads": {fakeServer{answers: 3, ends: true}, time.Hour, 3 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				ctx, op := begin(t.Context(), idleTimeout)
				defer op.end()
				request, err := http.NewRequestWithContext(ctx, http.MethodPut, "https://example.com/", bytes.NewReader(make([]byte, 100)))
				if err != nil {
					t.Fatal(err)
				}
				answer, err := watched{tc.server}.RoundTrip(request)
				if err == nil {
					defer answer.Body.Close()
				}
				for buffer := make([]byte, 1); err == nil; {
					if _, err = answer.Body.Read(buffer); err == nil {
						time.Sleep(tc.work)
					}
				}
				if got := time.Since(start); got != tc.want {
					t.Errorf("it ended after %s, want %s", got, tc.want)
				}
				if got := errors.Is(context.Cause(ctx), errIdle); got != tc.idle {
					t.Errorf("the cause is %v, want idle: %t", context.Cause(ctx), tc.idle)
				}
			})
		})
	}
}

// endless is a server whose answer has no end.
type endless struct{}

func (endless) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(zeros{})}, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestAnswersAreBounded checks that only a file may be longer than maxAnswer, and that an operation
// ends after maxRequests.
func TestAnswersAreBounded(t *testing.T) {
	t.Parallel()
	ask := func(t *testing.T, ctx context.Context) (*http.Response, error) {
		t.Helper()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://example.com/", nil)
		if err != nil {
			t.Fatal(err)
		}
		return watched{endless{}}.RoundTrip(request)
	}
	for name, file := range map[string]bool{"a list": false, "a file": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, op := begin(t.Context(), idleTimeout)
			defer op.end()
			op.file = file
			answer, err := ask(t, ctx)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			n, err := io.Copy(io.Discard, io.LimitReader(answer.Body, 2*maxAnswer))
			if file != (err == nil) || file != (n == 2*maxAnswer) {
				t.Errorf("%d bytes were read, and the error is %v", n, err)
			}
		})
	}
	t.Run("requests", func(t *testing.T) {
		t.Parallel()
		ctx, op := begin(t.Context(), idleTimeout)
		defer op.end()
		op.all = maxRequests - 1
		answer, err := ask(t, ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		answer, err = ask(t, ctx)
		if err == nil {
			answer.Body.Close()
		}
		if !errors.Is(err, errTooManyRequests) || !errors.Is(context.Cause(ctx), errTooManyRequests) {
			t.Errorf("got %v, want %v", err, errTooManyRequests)
		}
	})
}
