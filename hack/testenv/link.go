package testenv

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Link is the network between a program and a server of a test. It carries bytes until it is told to lose an
// answer, as when the program is killed or the network breaks after the server has done what it was asked, or
// to hold all requests or answers back.
type Link struct {
	listener net.Listener
	target   string
	lose     atomic.Int64
	answers  atomic.Int64
	// requests and held are gates that the two directions wait at while they are closed.
	requests, held gate
	delay          atomic.Int64
}

// NewLink carries connections to target until the test ends.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &Link{listener: listener, target: target}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go l.carry(client)
		}
	}()
	return l
}

// Address is where the link is entered, host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// LoseAnswer lets the n-th answer from now on be lost, and its connection with it; 0: none.
func (l *Link) LoseAnswer(n int) { l.lose.Store(int64(n)) }

// Lost says whether the answer that was to be lost is.
func (l *Link) Lost() bool { return l.lose.Load() <= 0 }

// Answers is how many answers the server has given: with one request at a time, how many round trips it took.
func (l *Link) Answers() int64 { return l.answers.Load() }

// Hold holds answers back until release is called.
func (l *Link) Hold() (release func()) { return l.held.close() }

// HoldRequests keeps requests from the server until release is called.
func (l *Link) HoldRequests() (release func()) { return l.requests.close() }

// Delay lets every answer take so much longer.
func (l *Link) Delay(by time.Duration) { l.delay.Store(int64(by)) }

// gate is open until it is closed.
type gate struct{ closed atomic.Pointer[chan struct{}] }

func (g *gate) close() (open func()) {
	closed := make(chan struct{})
	g.closed.Store(&closed)
	return func() {
		g.closed.Store(nil)
		close(closed)
	}
}

func (g *gate) pass() {
	if closed := g.closed.Load(); closed != nil {
		<-*closed
	}
}

func (l *Link) carry(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		defer server.Close()
		buffer := make([]byte, 64<<10)
		for {
			n, err := client.Read(buffer)
			if err != nil {
				return
			}
			l.requests.pass()
			if _, err := server.Write(buffer[:n]); err != nil {
				return
			}
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		l.answers.Add(1)
		time.Sleep(time.Duration(l.delay.Load()))
		l.held.pass()
		if l.lose.Load() > 0 && l.lose.Add(-1) == 0 {
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
