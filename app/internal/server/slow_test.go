package server

import (
	"bufio"
	"errors"
	"io"
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
	address := start(t, listen(t), handler, timeouts{short, 2 * short, 2 * short, short})
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
				conn, err := net.Dial("tcp", address)
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
	response, err := http.Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("another client: status %d", response.StatusCode)
	}
}
