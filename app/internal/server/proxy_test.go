package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// sayAddress answers with the address that the handler sees.
var sayAddress = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr) })

// header returns a PROXY header as bytes.
func header(t *testing.T, version byte, command proxyproto.ProtocolVersionAndCommand, source string) string {
	t.Helper()
	address := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(source))
	h := proxyproto.HeaderProxyFromAddrs(version, address, address)
	h.Command = command
	var out strings.Builder
	if _, err := h.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// proxied returns a client whose connections begin with what a proxy at address sends.
func (b *bounding) proxied(t *testing.T, address, begin string) *http.Client {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport.DialTLSContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, "tcp", b.address)
		if err != nil {
			return nil, err
		}
		config := b.config.Clone()
		config.NextProtos = []string{"http/1.1"}
		over := tls.Client(conn, config)
		if _, err := io.WriteString(conn, begin); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
		return over, nil
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// TestProxyHeader: a trusted proxy names the client, and nobody else does.
func TestProxyHeader(t *testing.T) {
	b := serveWithin(t, unbounded, sayAddress, "127.0.0.9", "127.0.1.0/24")
	for name, tc := range map[string]struct {
		peer, begin string
		// want is the address that is seen, without the port; empty: the connection fails.
		want string
	}{
		"version 1":             {peer: "127.0.0.9", begin: header(t, 1, proxyproto.PROXY, "203.0.113.5:51234"), want: "203.0.113.5"},
		"version 1 IPv6":        {peer: "127.0.0.9", begin: header(t, 1, proxyproto.PROXY, "[2001:db8::7]:51234"), want: "2001:db8::7"},
		"version 2":             {peer: "127.0.0.9", begin: header(t, 2, proxyproto.PROXY, "203.0.113.5:51234"), want: "203.0.113.5"},
		"version 2 IPv6":        {peer: "127.0.1.7", begin: header(t, 2, proxyproto.PROXY, "[2001:db8::7]:51234"), want: "2001:db8::7"},
		"version 1 unknown":     {peer: "127.0.0.9", begin: "PROXY UNKNOWN\r\n", want: "127.0.0.9"},
		"version 2 local":       {peer: "127.0.0.9", begin: header(t, 2, proxyproto.LOCAL, "203.0.113.5:51234"), want: "127.0.0.9"},
		"no header":             {peer: "127.0.0.9", want: "127.0.0.9"},
		"untrusted":             {peer: "127.0.0.8", want: "127.0.0.8"},
		"untrusted version 1":   {peer: "127.0.0.8", begin: header(t, 1, proxyproto.PROXY, "203.0.113.5:51234"), want: ""},
		"untrusted version 2":   {peer: "127.0.0.8", begin: header(t, 2, proxyproto.PROXY, "203.0.113.5:51234"), want: ""},
		"damaged version 1":     {peer: "127.0.0.9", begin: "PROXY TCP4 nonsense\r\n", want: ""},
		"damaged version 2":     {peer: "127.0.0.9", begin: "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x02\x00\x00", want: ""},
		"the beginning of one":  {peer: "127.0.0.9", begin: "PROXX", want: ""},
		"two headers":           {peer: "127.0.0.9", begin: strings.Repeat(header(t, 1, proxyproto.PROXY, "203.0.113.5:51234"), 2), want: ""},
		"an address, no number": {peer: "127.0.0.9", begin: "PROXY TCP4 example.com 127.0.0.1 1 1\r\n", want: ""},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := b.proxied(t, tc.peer, tc.begin).Get("https://" + b.address)
			if (err != nil) != (tc.want == "") {
				t.Fatalf("error %v", err)
			}
			if err != nil {
				return
			}
			defer response.Body.Close()
			seen, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if host, _, err := net.SplitHostPort(string(seen)); err != nil || host != tc.want {
				t.Errorf("seen as %s, want %s", seen, tc.want)
			}
		})
	}
}

// TestSlowProxyHeader: half a PROXY header delays no other client, and the connection is closed.
func TestSlowProxyHeader(t *testing.T) {
	b := serveWithin(t, unbounded, sayAddress, "127.0.0.0/8")
	var slow []net.Conn
	for _, begin := range []string{"", "PROXY TCP4 203.0", "\r\n\r\n\x00\r\nQUIT\n\x21"} {
		conn := dial(t, b.address)
		if _, err := io.WriteString(conn, begin); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, conn)
	}
	begun := time.Now()
	if status := b.get(t, b.proxied(t, "127.0.0.9", header(t, 2, proxyproto.PROXY, "203.0.113.5:1")), "/"); status != http.StatusOK {
		t.Errorf("another client: status %d", status)
	}
	if took := time.Since(begun); took > proxyHeaderTimeout/2 {
		t.Errorf("another client waited for %s", took)
	}
	for _, conn := range slow[1:] {
		isCutOff(t, conn)
	}
	// A client that sends no PROXY header and nothing else is cut off by the timeout of TLS.
	isCutOff(t, slow[0])
}

// TestClientsBehindAProxyAreApart: a client with many connections does not affect another one.
func TestClientsBehindAProxyAreApart(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.total, b.perAddress = 8, 3 }), sayAddress, "127.0.0.9")
	from := func(source string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("127.0.0.9")}}
		conn, err := dialer.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, header(t, 2, proxyproto.PROXY, source)); err != nil {
			t.Fatal(err)
		}
		over := tls.Client(conn, b.config.Clone())
		if err := over.Handshake(); err != nil {
			t.Fatal(err)
		}
		return over
	}
	good := from("203.0.113.7:1")
	var pile []net.Conn
	for range 30 {
		pile = append(pile, from("203.0.113.5:1"))
	}
	for _, conn := range pile[:27] {
		isCutOff(t, conn)
	}
	if n := b.count(reasonAddress); n != 27 {
		t.Errorf("%d connections closed for their address, want 27", n)
	}
	if n := b.count(reasonTotal); n != 0 {
		t.Errorf("%d connections closed for the total", n)
	}
	if err := good.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, good); err == nil || !isTimeout(err) {
		t.Errorf("the other client's connection: %v", err)
	}
	if status := b.get(t, b.proxied(t, "127.0.0.9", header(t, 2, proxyproto.PROXY, "203.0.113.7:2")), "/"); status != http.StatusOK {
		t.Errorf("another client: status %d", status)
	}
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}
