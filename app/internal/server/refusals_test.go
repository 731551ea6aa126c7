package server

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// start serves until the test ends, and returns the address.
func start(t *testing.T, listener net.Listener, handler http.Handler, limits timeouts) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- serve(ctx, listener, handler, limits, true, 0, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// listen returns a listener without TLS.
func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// TestLargeHeaderIsRefused: the URL is part of the header.
func TestLargeHeaderIsRefused(t *testing.T) {
	address := start(t, listen(t), http.NotFoundHandler(), production)
	large := strings.Repeat("x", 2*maxHeader)
	for name, tc := range map[string]struct {
		path, header string
		status       int
	}{
		"small":         {path: "/", header: "x", status: http.StatusNotFound},
		"large header":  {path: "/", header: large, status: http.StatusRequestHeaderFieldsTooLarge},
		"large address": {path: "/?q=" + large, header: "x", status: http.StatusRequestHeaderFieldsTooLarge},
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+address+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Test", tc.header)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = response.Body.Close()
		if response.StatusCode != tc.status {
			t.Errorf("%s: status %d, want %d", name, response.StatusCode, tc.status)
		}
	}
}

// TestEveryRequestIsTheHandlers: net/http answers only requests that it cannot read by itself, so
// that no other answer lacks headers, limits and log. docs/security.md lists its answers.
func TestEveryRequestIsTheHandlers(t *testing.T) {
	address := start(t, listen(t), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Handler", "yes")
		w.WriteHeader(http.StatusTeapot)
	}), production)
	for request, handled := range map[string]bool{
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n":                                            true,
		"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n":                                            true,
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n":                                                true,
		"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n":                                              true,
		"GET / HTTP/1.1\r\n\r\n":                                                           false, // 400
		"GET / HTTP/1.1\r\nHost: x\r\nExpect: much\r\n\r\n":                                false, // 417
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: none\r\n\r\n":                     false, // 501
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*maxHeader) + "\r\n\r\n": false, // 431
	} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%.60q: %v", request, err)
		}
		_ = response.Body.Close()
		_ = conn.Close()
		if got := response.Header.Get("X-Handler") != ""; got != handled {
			t.Errorf("%.60q: %s, by the handler: %v, want %v", request, response.Status, got, handled)
		}
	}
}
