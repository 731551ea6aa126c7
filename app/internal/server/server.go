// Package server runs the service's two listeners, HTTPS for clients and plain HTTP for probes and
// metrics, within a memory budget, and ends them in order.
//
// All that clients can make the process hold is bounded, and the sum of the bounds is below the
// memory limit: see [Budget] and docs/limits.md. [Listen] bounds connections, in all and by
// address, and closes those without a request first. [Serve] bounds requests under way. A PROXY
// header tells the address where a trusted proxy stands before the service.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// timeouts are of every phase of a connection, so that slow clients hold nothing for long.
type timeouts struct{ readHeader, read, write, idle time.Duration }

var (
	production = timeouts{readHeader: 5 * time.Second, read: 30 * time.Second, write: 60 * time.Second, idle: 2 * time.Minute}
	// probeTimeouts are short: the kubelet waits for a second or a few, and Prometheus for ten.
	probeTimeouts = timeouts{readHeader: 2 * time.Second, read: 2 * time.Second, write: 10 * time.Second, idle: 2 * time.Second}
)

// shutdownTimeout is how long requests under way may take after the drain; with the drain it stays
// below the 45 s of grace that the operator gives the pod.
const shutdownTimeout = 20 * time.Second

// Serve serves until ctx ends, then for drain longer, while load balancers take notice that the
// process is not ready any more, and then lets the requests under way finish.
func Serve(ctx context.Context, l *Listener, handler http.Handler, drain time.Duration, log *slog.Logger) error {
	return serve(ctx, l, bounded(handler, l.requestRefused, l.headers), l.timeouts, l.keepAlive, drain, log)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, t timeouts, keepAlive bool, drain time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: t.readHeader, ReadTimeout: t.read,
		WriteTimeout: t.write, IdleTimeout: t.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Else net/http itself answers OPTIONS *, with 200 and without what the handler puts on every answer.
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
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(last); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("listener %s: requests were cut off after %s: %w", listener.Addr(), shutdownTimeout, err)
	}
	return nil
}
