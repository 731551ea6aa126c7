package testenv

import (
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Link is the network between a program and a server of a test. It can lose an answer, as if the
// program was killed or the network failed after the server had done its work. It can also hold
// back or delay requests and answers.
type Link struct {
	listener net.Listener
	target   string
	lose     atomic.Int64
	answers  atomic.Int64
	// requests and held are gates for the two directions, which wait while their gate is closed.
	requests, held gate
	delay          atomic.Int64
}

// NewLink returns a link that forwards connections to target until the test ends.
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

// Address returns the address that the link listens on, host:port.
func (l *Link) Address() string { return l.listener.Addr().String() }

// LoseAnswer makes the link lose the n-th answer from now on, and its connection. With 0 it loses
// none.
func (l *Link) LoseAnswer(n int) { l.lose.Store(int64(n)) }

// Lost reports whether the link has lost the answer that [Link.LoseAnswer] chose.
func (l *Link) Lost() bool { return l.lose.Load() <= 0 }

// Answers returns how many answers the server has sent. With one request at a time, this is the
// number of round trips.
func (l *Link) Answers() int64 { return l.answers.Load() }

// Hold holds answers back until release is called.
func (l *Link) Hold() (release func()) { return l.held.close() }

// HoldRequests keeps requests from the server until release is called.
func (l *Link) HoldRequests() (release func()) { return l.requests.close() }

// Delay delays every answer.
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
