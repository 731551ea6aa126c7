package exhaustion

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/time/rate"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// crowd are the clients of one attack.
type crowd struct {
	target Target
	// accounts are all accounts of the target.
	accounts []Account
	pool     *x509.CertPool
	// connections and handshakes limit how often the clients connect, and how often with TLS. The
	// attacks test what connections can hold; a test machine has no processor time for more of
	// them.
	connections, handshakes *rate.Limiter
}

// These are the connections and TLS handshakes per second of all concurrent attacks together.
const connectionsPerSecond, handshakesPerSecond = 2400, 600

// newCrowd returns the clients of one of several concurrent attacks.
func newCrowd(target Target, ways int) (*crowd, error) {
	pool, err := notesclient.RootCAs(target.CAFile)
	if err != nil {
		return nil, err
	}
	return &crowd{
		target: target, accounts: slices.Concat(target.Accounts.Writers, target.Accounts.Listers), pool: pool,
		connections: rate.NewLimiter(rate.Limit(connectionsPerSecond/ways), 50), handshakes: rate.NewLimiter(rate.Limit(handshakesPerSecond/ways), 50),
	}, nil
}

// addresses is how many addresses the clients have, so that limits by address alone do not stop
// them.
const addresses = 8

func address(i int) string { return fmt.Sprintf("127.0.0.%d", 10+i%addresses) }

func (c *crowd) account(i int) Account { return c.accounts[i%len(c.accounts)] }

// each runs n clients until ctx ends. A client that is refused or disconnected starts again.
func (c *crowd) each(ctx context.Context, n int, client func(ctx context.Context, i int) error) {
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() {
			for c.connections.Wait(ctx) == nil {
				if client(ctx, i) != nil {
					pause(ctx, 200*time.Millisecond)
				}
			}
		})
	}
	done.Wait()
}

// pause waits for d, and reports whether ctx is still active.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// dial connects the i-th client. The connection ends with ctx.
func (c *crowd) dial(ctx context.Context, i int, to string, receiveBuffer int) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(address(i))}}
	if receiveBuffer > 0 {
		dialer.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			controlErr := raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer)
			})
			if err == nil {
				err = controlErr
			}
			return err
		}
	}
	conn, err := dialer.DialContext(ctx, "tcp", to)
	if err != nil {
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // leaves no socket in TIME_WAIT
	return &ending{Conn: conn, stop: context.AfterFunc(ctx, func() { _ = conn.Close() })}, nil
}

// ending is a connection that is closed when a context ends.
type ending struct {
	net.Conn
	stop func() bool
}

// Close closes the connection and detaches it from the context.
func (e *ending) Close() error {
	e.stop()
	return e.Conn.Close()
}

// dialTLS connects the i-th client with TLS and one protocol.
func (c *crowd) dialTLS(ctx context.Context, i int, protocol string, receiveBuffer int) (*tls.Conn, error) {
	if err := c.handshakes.Wait(ctx); err != nil {
		return nil, err
	}
	raw, err := c.dial(ctx, i, c.target.Address, receiveBuffer)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, c.tlsConfig(protocol))
	handshake, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := conn.HandshakeContext(handshake); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// The protocols of ALPN.
const http1, http2 = "http/1.1", "h2"

func (c *crowd) tlsConfig(protocol string) *tls.Config {
	return &tls.Config{RootCAs: c.pool, ServerName: "localhost", MinVersion: tls.VersionTLS13, NextProtos: []string{protocol}}
}

// options returns the options of an ordinary client with the i-th address.
func (c *crowd) options(i int, protocol string) notesclient.Options {
	return notesclient.Options{RootCAs: c.pool, LocalAddress: address(i), HTTP2: protocol == http2}
}

// untilClosed reads and discards data until the server closes the connection.
func untilClosed(conn net.Conn) error {
	buffer := make([]byte, 512)
	for {
		if _, err := conn.Read(buffer); err != nil {
			return err
		}
	}
}

// drip calls write at intervals until the server closes the connection.
func drip(ctx context.Context, conn net.Conn, every time.Duration, write func() error) error {
	closed := make(chan error, 1)
	go func() { closed <- untilClosed(conn) }()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-closed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
			if err := write(); err != nil {
				return err
			}
		}
	}
}
