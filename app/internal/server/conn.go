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

// conn is a connection that [connections] count. The fields below mu are theirs.
type conn struct {
	net.Conn
	owner *connections
	// proxied reads the PROXY header; nil where the peer is not a trusted proxy.
	proxied *proxyproto.Conn
	resolve sync.Once
	remote  net.Addr
	// writing is held while bytes are written; reads are those that have begun meanwhile.
	writing   sync.Mutex
	isWriting atomic.Bool
	reads     atomic.Int32
	// closed is closed when the connection is forgotten.
	closed chan struct{}

	// heard: something was received. Only the goroutine that reads uses it.
	heard bool
	// weight is what the connection's share is when it has one. Only its own goroutine uses it.
	weight int

	// network is the key of the connection's group; exempt: of a trusted proxy itself.
	network string
	exempt  bool
	group   *group
	// class is silent, fresh or settled.
	class int
	// open: the connection has open streams, or a request over HTTP/1.1.
	open bool
	// work is the share of the memory for requests; requests and abandoned are of those under way.
	work, requests, abandoned int
	opened, workSince         time.Time
	gone                      bool
	spare                     *list.Element
	spareSince                time.Time
	blocked                   *list.Element
	blockedSince              time.Time
}

// Read reads nothing more while the client does not read what is written to it: each PING and
// SETTINGS that it sends meanwhile would have net/http keep an answer in memory. One read beside a
// write is usual, so that clients that do read are not held up.
func (c *conn) Read(b []byte) (int, error) {
	c.RemoteAddr()
	if c.isWriting.Load() && c.reads.Add(1) > 1 {
		c.owner.block(c)
		c.writing.Lock()
		c.writing.Unlock() //nolint:staticcheck // it waits for a write, and protects nothing
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
		// Of other kinds, such as UNIX sockets, there is nothing to count by.
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

// abort closes a connection that has been forgotten, and drops what its client has not read.
func (c *conn) abort() {
	raw := c.Conn
	if c.proxied != nil {
		raw = c.proxied.Raw()
	}
	if tcp, ok := raw.(*net.TCPConn); ok && c.class == settled {
		_ = tcp.SetLinger(0)
	}
	_ = c.Conn.Close()
}

// learnWeight sets how many requests the client may have under way at once.
func (c *conn) learnWeight(nc net.Conn) {
	if c.weight > 0 {
		return
	}
	c.weight = 1
	if over, ok := nc.(*tls.Conn); ok && over.ConnectionState().NegotiatedProtocol == "h2" {
		c.weight = maxStreams
	}
}

// tracked returns the connection below TLS, or nil if it is not one of [connections].
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
