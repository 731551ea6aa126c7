package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	proxyproto "github.com/pires/go-proxyproto"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// proxyHeaderTimeout bounds the reading of a PROXY header. Proxies send it in their first packet.
const proxyHeaderTimeout = 2 * time.Second

// Options are what both listeners need.
type Options struct {
	// MemoryLimit is what the process may use, in bytes. Every bound is derived from it.
	MemoryLimit int64
	// TrustedProxies are the addresses and networks (CIDR) whose PROXY header, version 1 or 2, is
	// trusted.
	TrustedProxies []string
	// Headers sets the headers that every answer has. It may be nil.
	Headers func(http.Header)
	// Metrics may be nil.
	Metrics *Metrics
	Log     *slog.Logger
}

// Listener accepts connections within bounds.
type Listener struct {
	net.Listener
	connections *connections
	// requestRefused counts a request that was refused.
	requestRefused func()
	headers        func(http.Header)
	timeouts       timeouts
	keepAlive      bool
}

// ErrCertificate means that the files of the TLS certificate are not usable.
var ErrCertificate = errors.New("TLS certificate")

// Listen opens the HTTPS listener: TLS 1.3 and HTTP/2. It reloads the certificate when its files
// change, until ctx ends.
func Listen(ctx context.Context, address, certFile, keyFile string, o Options) (*Listener, error) {
	watcher, err := certwatcher.New(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	go func() {
		if err := watcher.Start(ctx); err != nil {
			o.Log.Error("the TLS certificate is no longer watched; restart the process after a renewal", "error", err.Error())
		}
	}()
	l, err := openListener(ctx, "api", address, apiBounds(o.MemoryLimit), o)
	if err != nil {
		return nil, fmt.Errorf("HTTPS: %w", err)
	}
	l.timeouts, l.keepAlive = production, true
	l.Listener = tls.NewListener(l.Listener, &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: watcher.GetCertificate, NextProtos: []string{"h2", "http/1.1"},
	})
	return l, nil
}

// ListenProbes opens the plain HTTP listener for probes and metrics. Its connections are short.
func ListenProbes(ctx context.Context, address string, o Options) (*Listener, error) {
	o.TrustedProxies = nil // the kubelet and Prometheus connect directly
	l, err := openListener(ctx, "probes", address, probeBounds, o)
	if err != nil {
		return nil, fmt.Errorf("metrics and probes: %w", err)
	}
	l.timeouts = probeTimeouts
	return l, nil
}

func openListener(ctx context.Context, name, address string, b bounds, o Options) (*Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return limitBuffers(raw) }}
	inner, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	proxies, err := networks(o.TrustedProxies)
	if err != nil {
		_ = inner.Close()
		return nil, err
	}
	l := newListener(inner, b, proxies, o.Metrics.of(name))
	l.headers = o.Headers
	return l, nil
}

func newListener(inner net.Listener, b bounds, proxies []netip.Prefix, m listenerMetrics) *Listener {
	c := newConnections(b, proxies, m.closed)
	return &Listener{Listener: &countedListener{inner, c}, connections: c, requestRefused: m.refused}
}

// networks parses addresses and networks.
func networks(texts []string) ([]netip.Prefix, error) {
	prefixes := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			ip, errAddress := netip.ParseAddr(text)
			if errAddress != nil {
				return nil, fmt.Errorf("trusted proxies: %q is neither an address nor a network such as 10.0.0.0/8", text)
			}
			prefix = netip.PrefixFrom(ip.Unmap().WithZone(""), ip.Unmap().BitLen())
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, nil
}

// limitBuffers bounds what the kernel holds for a connection. Accepted sockets inherit it.
func limitBuffers(raw syscall.RawConn) (err error) {
	set := func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, socketBuffer/2); err == nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer/2)
		}
	}
	if errControl := raw.Control(set); errControl != nil {
		return errControl
	}
	return err
}

// countedListener is a listener whose connections are counted. It never waits for a client.
type countedListener struct {
	net.Listener
	connections *connections
}

// Accept implements net.Listener.
func (l *countedListener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, owner: l.connections, closed: make(chan struct{})}
	c.network, c.exempt = l.connections.groupOf(accepted.RemoteAddr())
	if c.exempt {
		c.proxied = proxyproto.NewConn(accepted, proxyproto.WithPolicy(proxyproto.USE),
			proxyproto.SetReadHeaderTimeout(proxyHeaderTimeout))
		c.Conn = c.proxied
	}
	l.connections.add(c)
	return c, nil
}
