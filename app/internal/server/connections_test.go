package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// bounding is a server with bounds. It serves until the test ends.
type bounding struct {
	address string
	config  *tls.Config
	closed  sync.Map // reason -> *atomic.Int64
	refused atomic.Int64
}

func (b *bounding) count(reason string) int64 {
	n, ok := b.closed.Load(reason)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

// serveWithin starts a server with TLS. proxies are the addresses whose PROXY header is trusted.
func serveWithin(t *testing.T, bounds bounds, handler http.Handler, proxies ...string) *bounding {
	t.Helper()
	trusted, err := networks(proxies)
	if err != nil {
		t.Fatal(err)
	}
	b := &bounding{}
	l := newListener(listen(t), bounds, trusted, listenerMetrics{
		closed: func(reason string) {
			n, _ := b.closed.LoadOrStore(reason, &atomic.Int64{})
			n.(*atomic.Int64).Add(1)
		},
		refused: func() { b.refused.Add(1) },
	})
	var config *tls.Config
	config, b.config = exampleTLS()
	l.Listener = tls.NewListener(l.Listener, config)
	l.timeouts, l.keepAlive = production, true
	b.address = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, handler, 0, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return b
}

// client returns a client from an address of the loopback network.
func (b *bounding) client(t *testing.T, address string) *http.Client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 5 * time.Second}
	transport := &http.Transport{TLSClientConfig: b.config.Clone(), DialContext: dialer.DialContext, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// get returns the status, or fails the test.
func (b *bounding) get(t *testing.T, client *http.Client, path string) int {
	t.Helper()
	response, err := client.Get("https://" + b.address + path)
	if err != nil {
		t.Error(err)
		return 0
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	return response.StatusCode
}

// connect opens a connection of HTTP/2 from an address and leaves it idle.
func (b *bounding) connect(t *testing.T, address string) *attacker {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	raw, err := dialer.Dial("tcp", b.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	if err := raw.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, b.config.Clone())
	a := &attacker{conn, http2.NewFramer(conn, conn)}
	_, err = io.WriteString(conn, http2.ClientPreface)
	err = errors.Join(err, a.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	// The acknowledgement shows that the server has read the settings.
	for settled := false; err == nil && !settled; {
		var frame http2.Frame
		if frame, err = a.ReadFrame(); err == nil {
			settings, ok := frame.(*http2.SettingsFrame)
			settled = ok && settings.IsAck()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// isClosed waits until the server has closed the connection.
func (a *attacker) isClosed(t *testing.T) {
	t.Helper()
	for {
		if _, err := a.ReadFrame(); err != nil {
			if isTimeout(err) {
				t.Error("the connection is still open")
			}
			return
		}
	}
}

// answersPing reports whether the connection is open.
func (a *attacker) answersPing(t *testing.T) bool {
	t.Helper()
	if err := a.WritePing(false, [8]byte{1}); err != nil {
		return false
	}
	for {
		frame, err := a.ReadFrame()
		if err != nil {
			return false
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			return true
		}
	}
}

func small(change func(*bounds)) bounds {
	b := unbounded
	change(&b)
	return b
}

var ok = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })

// TestLargeFramesAreRefused: by default net/http allows frames of 1 MiB, and holds each in memory.
func TestLargeFramesAreRefused(t *testing.T) {
	b := serveWithin(t, unbounded, ok)
	a := b.connect(t, "127.0.0.1")
	if _, err := a.Conn.Write([]byte{0x10, 0, 0, 0xee, 0, 0, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	a.isClosed(t)
}

// TestSettingsAreBounded reads the settings that the server sends to clients of HTTP/2.
func TestSettingsAreBounded(t *testing.T) {
	b := serveWithin(t, unbounded, ok)
	conn, err := tls.Dial("tcp", b.address, b.config.Clone())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	framer := http2.NewFramer(conn, conn)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	frame, err := framer.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	got := map[http2.SettingID]uint32{}
	if err := frame.(*http2.SettingsFrame).ForeachSetting(func(s http2.Setting) error {
		got[s.ID] = s.Val
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[http2.SettingID]uint32{
		http2.SettingMaxFrameSize: maxFrame, http2.SettingMaxConcurrentStreams: maxStreams, http2.SettingMaxHeaderListSize: maxHeader + 320,
		http2.SettingHeaderTableSize: headerTable, http2.SettingInitialWindowSize: receiveBuffer,
	} {
		if got[id] != want {
			t.Errorf("%v: %d, want %d", id, got[id], want)
		}
	}
}

// TestIdleConnectionsMakeRoom: the connection that was idle for longest is closed: one of the same
// address if that is at its bound, otherwise one of the address with the most.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.total, b.perAddress = 6, 4 }), ok)
	var pile []*attacker
	for range 5 {
		pile = append(pile, b.connect(t, "127.0.0.1"))
	}
	pile[0].isClosed(t)
	other := b.connect(t, "127.0.0.2")
	third := b.connect(t, "127.0.0.3")
	if n := b.count(reasonAddress); n != 1 {
		t.Errorf("%d connections closed for their address, want 1", n)
	}
	fourth := b.connect(t, "127.0.0.4")
	pile[1].isClosed(t)
	if n := b.count(reasonTotal); n != 1 {
		t.Errorf("%d connections closed for the total, want 1", n)
	}
	for name, a := range map[string]*attacker{"other": other, "third": third, "fourth": fourth, "the pile's next": pile[2]} {
		if !a.answersPing(t) {
			t.Errorf("%s is closed", name)
		}
	}
}

// TestUnfinishedConnectionsMakeRoom: connections that have sent nothing, or half a ClientHello, are
// closed for new ones.
func TestUnfinishedConnectionsMakeRoom(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.unfinished = 3 }), ok)
	idle := b.connect(t, "127.0.0.1")
	var pile []net.Conn
	for i := range 5 {
		conn := dial(t, b.address)
		if _, err := io.WriteString(conn, "\x16\x03\x01\x02\x00\x01\x00\x01"[:i]); err != nil {
			t.Fatal(err)
		}
		pile = append(pile, conn)
	}
	isCutOff(t, pile[0])
	isCutOff(t, pile[1])
	if status := b.get(t, b.client(t, "127.0.0.2"), "/"); status != http.StatusOK {
		t.Errorf("another client: status %d", status)
	}
	if !idle.answersPing(t) {
		t.Error("a connection that has sent its preface is closed")
	}
}

// TestConnectionsWithRequestsStay: a connection with a request is not closed for a new one. If none
// is idle, the new one is closed.
func TestConnectionsWithRequestsStay(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{})
	b := serveWithin(t, small(func(b *bounds) { b.total = 2 }), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-release
	}))
	statuses := make(chan int)
	for range 2 {
		go func() { statuses <- b.get(t, b.client(t, "127.0.0.1"), "/") }()
		<-entered
	}
	isCutOff(t, dial(t, b.address))
	close(release)
	for range 2 {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}

// TestConnectionsWaitForSlots: a connection waits until another one releases its slots, and one
// address cannot hold all of them.
func TestConnectionsWaitForSlots(t *testing.T) {
	release := make(chan struct{})
	entered := make(chan struct{}, 10)
	var once sync.Once
	unlock := func() { once.Do(func() { close(release) }) }
	defer unlock()
	b := serveWithin(t, small(func(b *bounds) { b.slots, b.slotsPerAddress = 3*maxStreams, maxStreams }), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		if r.URL.Path == "/wait" {
			<-release
		}
	}))
	statuses := make(chan int, 2)
	go func() { statuses <- b.get(t, b.client(t, "127.0.0.1"), "/wait") }()
	<-entered
	go func() { statuses <- b.get(t, b.client(t, "127.0.0.1"), "/") }()
	if status := b.get(t, b.client(t, "127.0.0.2"), "/"); status != http.StatusOK {
		t.Errorf("another address: status %d", status)
	}
	<-entered
	select {
	case <-entered:
		t.Error("the address has more slots than its bound")
	case <-time.After(100 * time.Millisecond):
	}
	unlock()
	for range 2 {
		if status := <-statuses; status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
}

// TestFewSlowRequestsComeFirst: when slow requests of some addresses use all slots, an address with
// few requests is served, and the address with the most loses a connection.
func TestFewSlowRequestsComeFirst(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.slots, b.requests = 3*maxStreams, 6 }), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large[:64<<10])
		}
	}))
	var slow []*attacker
	for _, address := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		a := b.connect(t, address)
		for i := range uint32(3) {
			a.request(t, 2*i+1, "/large", 0)
		}
		if _, err := a.ReadFrame(); err != nil {
			t.Fatal(err)
		}
		slow = append(slow, a)
	}
	if status := b.get(t, b.client(t, "127.0.0.3"), "/"); status != http.StatusOK {
		t.Errorf("another client: status %d", status)
	}
	slow[0].isClosed(t)
	if n := b.count(reasonSlots); n != 1 {
		t.Errorf("%d connections closed, want 1", n)
	}
}

// TestBusyConnectionsGiveWay: when addresses keep all their connections busy, another address can
// still connect, and keeps its connection.
func TestBusyConnectionsGiveWay(t *testing.T) {
	for name, tc := range map[string]struct {
		// busy are the addresses of connections with requests, and age is how old these are.
		busy []string
		age  time.Duration
	}{
		"of few addresses":           {busy: []string{"127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2", "127.0.0.2"}},
		"one of each of many others": {busy: []string{"127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7"}, age: equalGrace},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			entered := make(chan struct{}, 100)
			b := serveWithin(t, small(func(b *bounds) { b.total = 8 }), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					entered <- struct{}{}
					_, _ = io.Copy(io.Discard, r.Body)
				}
			}))
			kept := b.client(t, "127.0.0.9")
			if status := b.get(t, kept, "/"); status != http.StatusOK {
				t.Fatalf("status %d", status)
			}
			for _, address := range tc.busy {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
				raw, err := dialer.Dial("tcp", b.address)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = raw.Close() })
				config := b.config.Clone()
				config.NextProtos = []string{"http/1.1"}
				if _, err := io.WriteString(tls.Client(raw, config), "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8000\r\n\r\nx"); err != nil {
					t.Fatal(err)
				}
				<-entered
			}
			<-time.After(tc.age)
			for _, address := range []string{"127.0.0.10", "127.0.0.11", "127.0.0.12"} {
				client := b.client(t, address)
				if status := b.get(t, client, "/"); status != http.StatusOK {
					t.Errorf("a new connection from %s: status %d", address, status)
				}
				client.CloseIdleConnections()
			}
			if n := b.count(reasonTotal); n == 0 {
				t.Error("no connection was closed")
			}
		})
	}
}

// TestOneSlowStreamOfEachAddress: many addresses with one slow stream each do not stop another
// client for long.
func TestOneSlowStreamOfEachAddress(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.slots = 3 * maxStreams }), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large[:64<<10])
		}
	}))
	for _, address := range []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"} {
		a := b.connect(t, address)
		a.request(t, 1, "/large", 0)
		if _, err := a.ReadFrame(); err != nil {
			t.Fatal(err)
		}
	}
	if status := b.get(t, b.client(t, "127.0.0.4"), "/"); status != http.StatusOK {
		t.Errorf("another client: status %d", status)
	}
}

// TestSilentConnectionsGiveWayFirst: connections that have sent nothing are closed before one in
// the middle of its handshake, whichever is older.
func TestSilentConnectionsGiveWayFirst(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.unfinished = 3 }), ok)
	handshake := dial(t, b.address) // from an address with as many as the others
	if _, err := io.WriteString(handshake, "\x16\x03\x01\x02\x00\x01"); err != nil {
		t.Fatal(err)
	}
	var silent []net.Conn
	for i := range 6 {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(10+i))}}
		conn, err := dialer.Dial("tcp", b.address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		silent = append(silent, conn)
	}
	isCutOff(t, silent[0])
	if err := handshake.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := handshake.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("the handshake was cut off: %v", err)
	}
}

// TestAnswersThatAreNotReadGiveUpTheirShare: a connection loses its slots if its client does not
// read answers outside the handler: those of net/http to a too large header, and the last 4 KiB of
// any.
func TestAnswersThatAreNotReadGiveUpTheirShare(t *testing.T) {
	for name, n := range map[string]int{"of the handler": 0, "of net/http": tooManyFields} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := serveWithin(t, small(func(b *bounds) { b.slots = maxStreams }), ok)
			a := b.connect(t, "127.0.0.1")
			for i := range uint32(maxStreams) {
				a.request(t, 2*i+1, "/", n)
			}
			if _, err := a.ReadFrame(); err != nil { // the first answer's header
				t.Fatal(err)
			}
			if status := b.get(t, b.client(t, "127.0.0.2"), "/"); status != http.StatusOK {
				t.Errorf("another client: status %d", status)
			}
			a.isClosed(t)
			if n := b.count(reasonSlots); n != 1 {
				t.Errorf("%d connections closed, want 1", n)
			}
		})
	}
}

// TestRequestsUnderWayAreBounded: a request whose answer is not read is still in flight, in the
// process and for the client's address.
func TestRequestsUnderWayAreBounded(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.requestsPerAddress = 3 }), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			_, _ = io.WriteString(w, large[:64<<10])
		}
	}))
	a := b.connect(t, "127.0.0.1")
	for i := range uint32(3) {
		a.request(t, 2*i+1, "/large", 0)
	}
	for range 3 { // headers have come, and no data
		if frame, err := a.ReadFrame(); err != nil || frame.Header().Type != http2.FrameHeaders {
			t.Fatalf("%v %v", frame, err)
		}
	}
	for address, want := range map[string]int{"127.0.0.1": http.StatusServiceUnavailable, "127.0.0.2": http.StatusOK} {
		response, err := b.client(t, address).Get("https://" + b.address)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil || response.StatusCode != want {
			t.Errorf("%s: %s %v, want %d", address, response.Status, err, want)
		}
		if want != http.StatusOK && (response.Header.Get("Retry-After") != "5" || !strings.Contains(string(body), `"error":"Too many requests in progress`)) {
			t.Errorf("%v %s", response.Header, body)
		}
	}
	if n := b.refused.Load(); n != 1 {
		t.Errorf("%d refused requests counted, want 1", n)
	}
}

// TestClientsThatGoOnAreCutOff: at twice the bound the connection is closed.
func TestClientsThatGoOnAreCutOff(t *testing.T) {
	b := serveWithin(t, small(func(b *bounds) { b.requestsPerAddress = 2 }), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, large[:64<<10])
	}))
	a := b.connect(t, "127.0.0.1")
	for i := range uint32(5) {
		a.request(t, 2*i+1, "/", 0)
	}
	a.isClosed(t)
	if n := b.count(reasonRequests); n != 1 {
		t.Errorf("%d connections closed, want 1", n)
	}
	if n := b.refused.Load(); n != 2 {
		t.Errorf("%d requests refused, want 2", n)
	}
}

// TestAbandonedRequestsAreBounded: a client that resets its requests at once can send others while
// the handler still works on the first ones.
func TestAbandonedRequestsAreBounded(t *testing.T) {
	release, entered := make(chan struct{}), make(chan struct{}, 10)
	b := serveWithin(t, small(func(b *bounds) { b.abandoned = 1 }), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			entered <- struct{}{}
			<-release
		}
	}))
	defer close(release)
	one, two := b.connect(t, "127.0.0.1"), b.connect(t, "127.0.0.2")
	for _, a := range []*attacker{one, two} {
		a.request(t, 1, "/wait", 0)
		<-entered
		if err := a.WriteRSTStream(1, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
		if a == one && !a.answersPing(t) {
			t.Error("the first is closed")
		}
	}
	two.isClosed(t)
	if n := b.count(reasonAbandoned); n != 1 {
		t.Errorf("%d connections closed, want 1", n)
	}
}

// TestOrdinaryClientsLoseNothing: many requests over one connection, a large upload, a long answer.
func TestOrdinaryClientsLoseNothing(t *testing.T) {
	b := serveWithin(t, apiBounds(defaultMemoryLimit), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || r.ContentLength > 0 && n != r.ContentLength {
			t.Errorf("%d bytes arrived: %v", n, err)
		}
		if r.URL.Path == "/export" {
			for range 90 {
				_, _ = io.WriteString(w, large[:100_000])
				_ = http.NewResponseController(w).Flush()
			}
		}
	}))
	client := b.client(t, "127.0.0.1")
	for _, tc := range []struct {
		path           string
		sent, received int64
		times          int
	}{{path: "/", times: 100}, {path: "/upload", sent: 1_400_000, times: 2}, {path: "/export", received: 9_000_000, times: 2}} {
		var group sync.WaitGroup
		for range tc.times {
			group.Go(func() {
				response, err := client.Post("https://"+b.address+tc.path, "text/plain", strings.NewReader(large[:tc.sent]))
				if err != nil {
					t.Error(err)
					return
				}
				defer response.Body.Close()
				if n, err := io.Copy(io.Discard, response.Body); err != nil || n != tc.received || response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
					t.Errorf("%s: %s, %d bytes, %v", tc.path, response.Status, n, err)
				}
			})
		}
		group.Wait()
	}
	if n := b.count(reasonTotal) + b.count(reasonAddress) + b.count(reasonSlots) + b.count(reasonRequests) + b.refused.Load(); n != 0 {
		t.Errorf("%d connections or requests refused", n)
	}
}
