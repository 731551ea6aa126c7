// Package server runs the service's two listeners, HTTPS for clients and plain HTTP for probes and
// metrics, and ends them in order.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// timeouts are of every phase of a connection, so that slow clients hold nothing for long.
type timeouts struct{ readHeader, read, write, idle time.Duration }

var production = timeouts{readHeader: 5 * time.Second, read: 30 * time.Second, write: 60 * time.Second, idle: 2 * time.Minute}

const (
	// shutdownTimeout is how long requests under way may take after the drain; with the drain it
	// stays below the 45 s of grace that the operator gives the pod.
	shutdownTimeout = 20 * time.Second
	// maxHeader bounds a request's header, in bytes.
	maxHeader = 16 << 10
)

// Listen opens the HTTPS listener: TLS 1.3, HTTP/2, with the certificate read again when its files
// change. The watch ends with ctx.
func Listen(ctx context.Context, address, certFile, keyFile string, log *slog.Logger) (net.Listener, error) {
	watcher, err := certwatcher.New(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("TLS certificate: %w", err)
	}
	go func() {
		if err := watcher.Start(ctx); err != nil {
			log.Error("the TLS certificate is no longer watched: a renewed one needs a restart", "error", err.Error())
		}
	}()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("HTTPS: %w", err)
	}
	return tls.NewListener(listener, &tls.Config{
		MinVersion: tls.VersionTLS13, GetCertificate: watcher.GetCertificate, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}

// Serve serves until ctx ends, then for drain longer, while load balancers take notice that the
// process is not ready any more, and then lets the requests under way finish.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, drain time.Duration, log *slog.Logger) error {
	return serve(ctx, listener, handler, production, drain, log)
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler, t timeouts, drain time.Duration, log *slog.Logger) error {
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: t.readHeader, ReadTimeout: t.read,
		WriteTimeout: t.write, IdleTimeout: t.idle, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		// Else net/http itself answers OPTIONS *, with 200 and without what the handler puts on every answer.
		DisableGeneralOptionsHandler: true,
	}
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
