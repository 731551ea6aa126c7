// Package server runs the service's two listeners within a memory budget: HTTPS for clients, and
// plain HTTP for probes and metrics. It shuts them down in order.
//
// Everything that clients can make the process hold is bounded, and the sum of the bounds is below
// the memory limit: see [Budget] and docs/limits.md. [Listen] bounds connections, in total and by
// address, and closes idle ones first. [Serve] bounds requests in flight. Behind a trusted proxy, a
// PROXY header names the client's address.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/securenotes/securenotes/app/config"
)

// timeouts bounds every phase of a connection, so that slow clients hold nothing for long.
type timeouts struct{ readHeader, read, write, idle time.Duration }

var (
	production = timeouts{readHeader: 5 * time.Second, read: 30 * time.Second, write: 60 * time.Second, idle: 2 * time.Minute}
	// probeTimeouts are short: the kubelet waits for a few seconds, and Prometheus for ten.
	probeTimeouts = timeouts{readHeader: 2 * time.Second, read: 2 * time.Second, write: 10 * time.Second, idle: 2 * time.Second}
)

// Serve serves until ctx ends, and then for drain, in which load balancers notice that the process
// is no longer ready. After that it waits for the requests in flight.
func Serve(ctx context.Context, l *Listener, handler http.Handler, drain time.Duration, log *slog.Logger) error {
	return serve(ctx, l, limitRequests(handler, l.requestRefused, l.headers), l.timeouts, l.keepAlive, drain, log)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, t timeouts, keepAlive bool, drain time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: t.readHeader, ReadTimeout: t.read,
		WriteTimeout: t.write, IdleTimeout: t.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// By default net/http answers OPTIONS * itself, without the headers that the handler sets.
		DisableGeneralOptionsHandler: true,
		ConnState:                    followState,
		ConnContext:                  withConn,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, MaxReadFrameSize: maxFrame,
			MaxReceiveBufferPerConnection: receiveBuffer, MaxReceiveBufferPerStream: receiveBuffer,
			MaxDecoderHeaderTableSize: headerTable, MaxEncoderHeaderTableSize: headerTable,
		},
	}
	server.SetKeepAlivesEnabled(keepAlive)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("listener %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	timer := time.NewTimer(drain)
	defer timer.Stop()
	select {
	case err := <-ended:
		return fmt.Errorf("listener %s: %w", listener.Addr(), err)
	case <-timer.C:
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), config.ShutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %s: shutdown: requests that still ran after %s were aborted: %w", listener.Addr(), config.ShutdownTimeout, err)
	}
	return nil
}
