package server

import (
	"container/list"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
)

// conn is a connection that [connections] counts.
type conn struct {
	net.Conn
	owner *connections
	// proxied reads the PROXY header; it is nil if the peer is not a trusted proxy.
	proxied *proxyproto.Conn
	resolve sync.Once
	remote  net.Addr
	// writing is held during a write. reads counts the reads that have begun since the write began.
	writing   sync.Mutex
	isWriting atomic.Bool
	reads     atomic.Int32
	// closed is closed when the connection is forgotten.
	closed chan struct{}

	// heard means that something was received. Only the goroutine that reads uses it.
	heard bool
	// weight is how many slots the connection takes: the requests that the client may have in
	// flight. Only the connection's goroutine uses it.
	weight int

	// The mutex of connections guards what follows.

	// network is the key of the connection's group. exempt means that the peer is a trusted proxy.
	network string
	exempt  bool
	group   *group
	// class is silent, fresh or established.
	class int
	// hasStreams means that the connection has open streams, or a request over HTTP/1.1.
	hasStreams bool
	// slots is how many slots the connection holds: 0 or weight. requests and abandoned count its
	// requests in flight.
	slots, requests, abandoned int
	opened, slotsSince         time.Time
	gone                       bool
	// idlePlace is the connection's place in its group's idle lists; nil while a request is in
	// flight.
	idlePlace    *list.Element
	idleSince    time.Time
	blocked      *list.Element
	blockedSince time.Time
}

// Read waits while the client does not read what is written to it. Otherwise net/http would hold an
// answer in memory for each PING and SETTINGS that the client sends. One read during a write is
// normal, so clients that do read are not delayed.
func (c *conn) Read(b []byte) (int, error) {
	c.RemoteAddr()
	if c.isWriting.Load() && c.reads.Add(1) > 1 {
		c.owner.block(c)
		c.writing.Lock()
		c.writing.Unlock() //nolint:staticcheck // it only waits for the end of a write
		c.owner.unblock(c)
	}
	n, err := c.Conn.Read(b)
	if n > 0 && !c.heard {
		c.heard = true
		c.owner.heard(c)
	}
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.reads.Store(0)
	c.isWriting.Store(true)
	defer c.isWriting.Store(false)
	return c.Conn.Write(b)
}

// RemoteAddr returns the client's address. Behind a trusted proxy it waits for the PROXY header.
func (c *conn) RemoteAddr() net.Addr {
	c.resolve.Do(func() {
		c.remote = c.Conn.RemoteAddr()
		if c.proxied == nil {
			return
		}
		header := c.proxied.ProxyHeader()
		if header == nil || !header.Command.IsProxy() {
			return
		}
		// Other kinds of addresses, such as UNIX sockets, cannot be counted.
		if source, ok := header.SourceAddr.(*net.TCPAddr); ok {
			c.remote = source
			c.owner.move(c)
		}
	})
	return c.remote
}

// Close closes the connection and forgets it.
func (c *conn) Close() error {
	c.owner.remove(c)
	return c.Conn.Close()
}

// abort closes a connection that was forgotten, and drops what its client has not read.
func (c *conn) abort() {
	raw := c.Conn
	if c.proxied != nil {
		raw = c.proxied.Raw()
	}
	if tcp, ok := raw.(*net.TCPConn); ok && c.class == established {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// learnWeight sets how many requests the client may have in flight.
func (c *conn) learnWeight(nc net.Conn) {
	if c.weight > 0 {
		return
	}
	c.weight = 1
	if over, ok := nc.(*tls.Conn); ok && over.ConnectionState().NegotiatedProtocol == "h2" {
		c.weight = maxStreams
	}
}

// tracked returns the connection below TLS, or nil if [connections] does not count it.
func tracked(nc net.Conn) *conn {
	if over, ok := nc.(*tls.Conn); ok {
		nc = over.NetConn()
	}
	c, _ := nc.(*conn)
	return c
}

// followState is for [http.Server.ConnState].
func followState(nc net.Conn, state http.ConnState) {
	c := tracked(nc)
	if c == nil {
		return
	}
	switch state {
	case http.StateActive:
		c.learnWeight(nc)
		c.owner.active(c)
	case http.StateIdle:
		c.owner.idle(c)
	case http.StateNew, http.StateClosed, http.StateHijacked:
	}
}

type connKey struct{}

// withConn is for [http.Server.ConnContext].
func withConn(ctx context.Context, nc net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, tracked(nc))
}
