package server

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// short is the time that each phase of a connection may take in these tests.
const short = 500 * time.Millisecond

var impatient = timeouts{readHeader: short, read: 2 * short, write: 2 * short, idle: short}

// large is larger than the buffers of a connection.
var large = strings.Repeat("x", 64<<20)

// answerWhole answers after it has read the whole body, with a large answer under /large.
func answerWhole(w http.ResponseWriter, r *http.Request) {
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		w.WriteHeader(http.StatusRequestTimeout)
		return
	}
	if r.URL.Path == "/large" {
		_, _ = io.WriteString(w, large)
	}
}

// listenTLS returns a listener with TLS and HTTP/2, and the configuration of its clients.
func listenTLS(t *testing.T) (net.Listener, *tls.Config) {
	t.Helper()
	server, client := exampleTLS()
	return tls.NewListener(listen(t), server), client
}

// exampleTLS returns the configuration of a server and of its clients.
func exampleTLS() (server, client *tls.Config) {
	example := httptest.NewTLSServer(nil)
	defer example.Close()
	protocols := []string{"h2", "http/1.1"}
	client = example.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", protocols
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: example.TLS.Certificates, NextProtos: protocols,
	}, client
}

// dial connects for ten seconds, much longer than any phase may take.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// isCutOff reads until the server ends the connection, and returns how many bytes it received.
func isCutOff(t *testing.T, conn io.Reader) int64 {
	t.Helper()
	n, err := io.Copy(io.Discard, bufio.NewReader(conn))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
	return n
}

// TestSlowClientsAreCutOff: a client that takes too long in any phase loses its connection, and
// others are still served.
func TestSlowClientsAreCutOff(t *testing.T) {
	address := start(t, listen(t), http.HandlerFunc(answerWhole), impatient)
	t.Run("slow", func(t *testing.T) {
		for name, tc := range map[string]struct {
			send string
			// pause is the time before the client reads.
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
				conn := dial(t, address)
				if _, err := io.WriteString(conn, tc.send); err != nil {
					t.Fatal(err)
				}
				<-time.After(tc.pause)
				if n := isCutOff(t, conn); n >= int64(len(large)) {
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

// TestSlowHandshakesAreCutOff: the timeouts also apply to the TLS handshake.
func TestSlowHandshakesAreCutOff(t *testing.T) {
	listener, _ := listenTLS(t)
	address := start(t, listener, http.HandlerFunc(answerWhole), impatient)
	for name, send := range map[string]string{
		"nothing": "",
		// The beginning of a record of the handshake, of 512 bytes.
		"half a hello": "\x16\x03\x01\x02\x00\x01\x00\x01",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := dial(t, address)
			if _, err := io.WriteString(conn, send); err != nil {
				t.Fatal(err)
			}
			isCutOff(t, conn)
		})
	}
}

// TestSlowStreamsAreCutOff: the timeouts also apply over HTTP/2, where a connection has many
// requests.
func TestSlowStreamsAreCutOff(t *testing.T) {
	listener, config := listenTLS(t)
	address := start(t, listener, http.HandlerFunc(answerWhole), impatient)
	header := func(method, path string) []byte {
		var block bytes.Buffer
		encoder := hpack.NewEncoder(&block)
		for name, value := range map[string]string{":method": method, ":path": path, ":scheme": "https", ":authority": "example.com"} {
			if err := encoder.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
				t.Fatal(err)
			}
		}
		return block.Bytes()
	}
	for name, send := range map[string]func(*http2.Framer) error{
		"nothing": func(*http2.Framer) error { return nil },
		"half a header": func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("GET", "/")[:4]})
		},
		"half a body": func(f *http2.Framer) error {
			err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("POST", "/"), EndHeaders: true})
			return errors.Join(err, f.WriteData(1, false, []byte("half")))
		},
		"idle": func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("GET", "/"), EndHeaders: true, EndStream: true})
		},
		// It opens no window beyond the first 64 KiB.
		"reads nothing": func(f *http2.Framer) error {
			return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header("GET", "/large"), EndHeaders: true, EndStream: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := tls.Client(dial(t, address), config)
			if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
				t.Fatal(err)
			}
			if protocol := conn.ConnectionState().NegotiatedProtocol; protocol != "h2" {
				t.Fatalf("the connection speaks %q", protocol)
			}
			framer := http2.NewFramer(conn, conn)
			if err := errors.Join(framer.WriteSettings(), send(framer)); err != nil {
				t.Fatal(err)
			}
			n := isCutOff(t, conn)
			if n >= int64(len(large)) {
				t.Error("all of the answer was sent to a client that did not read")
			}
			if name == "reads nothing" && n < 60_000 {
				t.Errorf("the request was not understood: %d bytes came", n)
			}
		})
	}
}
