package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSlowClientsAreCutOff: in every phase a client that takes too long loses its connection, and others are
// served all the while.
func TestSlowClientsAreCutOff(t *testing.T) {
	const short = 200 * time.Millisecond
	large := strings.Repeat("x", 64<<20) // more than the buffers of a connection hold
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusRequestTimeout)
			return
		}
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, listener, handler, timeouts{short, 2 * short, 2 * short, short}, 0, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	t.Run("slow", func(t *testing.T) {
		for name, tc := range map[string]struct {
			send string
			// pause before what the server has sent is read.
			pause time.Duration
		}{
			"half a header": {send: "GET / HTTP/1.1\r\nHost: x\r\nX-Half: "},
			"half a body":   {send: "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf"},
			"nothing":       {},
			"idle":          {send: "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
			"reads nothing": {send: "GET /large HTTP/1.1\r\nHost: x\r\n\r\n", pause: 5 * short},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				conn, err := net.Dial("tcp", listener.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if _, err := io.WriteString(conn, tc.send); err != nil {
					t.Fatal(err)
				}
				<-time.After(tc.pause)
				if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, bufio.NewReader(conn))
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection is still open")
				}
				if n >= int64(len(large)) {
					t.Error("all of the answer was sent to a client that did not read")
				}
			})
		}
	})
	response, err := http.Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("another client: status %d", response.StatusCode)
	}
}

// TestLargeHeaderIsRefused: of a header, or of a URL, which is part of it.
func TestLargeHeaderIsRefused(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() {
		served <- Serve(ctx, listener, http.NotFoundHandler(), 0, slog.New(slog.DiscardHandler))
	}()
	defer func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	large := strings.Repeat("x", 2*maxHeader)
	for name, tc := range map[string]struct {
		path, header string
		status       int
	}{
		"small":         {"/", "x", http.StatusNotFound},
		"large header":  {"/", large, http.StatusRequestHeaderFieldsTooLarge},
		"large address": {"/?q=" + large, "x", http.StatusRequestHeaderFieldsTooLarge},
	} {
		request, err := http.NewRequest(http.MethodGet, "http://"+listener.Addr().String()+tc.path, nil)
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
