package server

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// BenchmarkRequest measures a request without the API's work, including the client.
func BenchmarkRequest(b *testing.B) {
	body := large[:400]
	address, config := serveBench(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	for name, protocols := range map[string][]string{"h1": {"http/1.1"}, "h2": {"h2"}} {
		b.Run(name, func(b *testing.B) {
			config := config.Clone()
			config.NextProtos = protocols
			transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: name == "h2", MaxIdleConnsPerHost: 8}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			b.ReportAllocs()
			for b.Loop() {
				response, err := client.Get("https://" + address)
				if err != nil {
					b.Fatal(err)
				}
				if n, err := io.Copy(io.Discard, response.Body); err != nil || n != int64(len(body)) {
					b.Fatalf("%d bytes, %v", n, err)
				}
				_ = response.Body.Close()
			}
		})
	}
}

func serveBench(b *testing.B, handler http.Handler) (address string, client *tls.Config) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server, client := exampleTLS()
	l := newListener(inner, apiBounds(defaultMemoryLimit), nil, (*Metrics)(nil).of("api"))
	l.Listener = tls.NewListener(l.Listener, server)
	l.timeouts, l.keepAlive = production, true
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, handler, 0, slog.New(slog.DiscardHandler)) }()
	b.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String(), client
}
