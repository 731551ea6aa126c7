package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func readiness(h http.Handler) (status int, body string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	return w.Code, strings.TrimSpace(w.Body.String())
}

// TestReadinessIsLookedUpInTheBackground: probes do not run the check, however many there are.
func TestReadinessIsLookedUpInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		p := NewProbes("starting")
		handler := p.Handler(prometheus.NewRegistry())
		if status, body := readiness(handler); status != http.StatusServiceUnavailable || body != "starting" {
			t.Errorf("at first: %d %s", status, body)
		}
		var checks atomic.Int64
		var failure atomic.Value
		failure.Store("")
		p.Ready(ctx, func(ctx context.Context) error {
			checks.Add(1)
			switch text := failure.Load().(string); text {
			case "":
				return nil
			case "hang":
				<-ctx.Done()
				return ctx.Err()
			default:
				return errors.New(text)
			}
		})
		for range 1000 {
			if status, body := readiness(handler); status != http.StatusOK {
				t.Fatalf("%d %s", status, body)
			}
		}
		if n := checks.Load(); n != 1 {
			t.Errorf("1000 probes caused %d checks, want 1", n)
		}
		for _, tc := range []struct {
			failure string
			after   time.Duration
			status  int
		}{
			{failure: "the database is away", after: 2 * checkInterval, status: http.StatusServiceUnavailable},
			{after: 2 * checkInterval, status: http.StatusOK},
			{failure: "hang", after: 2*checkInterval + checkTimeout, status: http.StatusServiceUnavailable},
			{after: 2*checkInterval + checkTimeout, status: http.StatusOK},
		} {
			failure.Store(tc.failure)
			time.Sleep(tc.after)
			if status, body := readiness(handler); status != tc.status {
				t.Errorf("%q: %d %s, want %d", tc.failure, status, body, tc.status)
			}
		}
		p.NotReady("ending")
		time.Sleep(2 * checkInterval)
		if status, body := readiness(handler); status != http.StatusServiceUnavailable || body != "ending" {
			t.Errorf("at the end: %d %s", status, body)
		}
	})
}

// TestOldReadinessIsNone: a check that never returns must not leave the process ready.
func TestOldReadinessIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		p := NewProbes("starting")
		handler := p.Handler(prometheus.NewRegistry())
		stuck, first := make(chan struct{}), true
		p.Ready(ctx, func(context.Context) error {
			if !first {
				<-stuck
			}
			first = false
			return nil
		})
		if status, body := readiness(handler); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
		time.Sleep(checkTTL + time.Second)
		if status, body := readiness(handler); status != http.StatusServiceUnavailable {
			t.Errorf("%d %s", status, body)
		}
		cancel()
		close(stuck)
	})
}

// TestProbesAmidConnections: the kubelet gets its answer while other clients hold and open as many
// connections as they can, from its own address or from others.
func TestProbesAmidConnections(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	l, err := ListenProbes(ctx, "127.0.0.1:0", Options{MemoryLimit: defaultMemoryLimit})
	if err != nil {
		t.Fatal(err)
	}
	p := NewProbes("starting")
	p.Ready(ctx, func(context.Context) error { return nil })
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, l, p.Handler(prometheus.NewRegistry()), 0, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	const strangers, each = 30, 100
	opened := make(chan net.Conn, strangers*each)
	defer func() {
		for len(opened) > 0 {
			_ = (<-opened).Close()
		}
	}()
	flood := func() {
		for i := range strangers {
			dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i))}}
			for n := range each {
				conn, err := dialer.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				opened <- conn
				if n%2 == 0 {
					_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-Half: ")
				}
			}
		}
	}
	// probe sends probes like the kubelet, which restarts a process after three failures in a row.
	// One may fail: a client on the kubelet's own node can open more connections than an address
	// may have before the process reads from the probe's.
	probe := func(when string) {
		type ask struct {
			from byte
			path string
		}
		var failed []ask
		for i := range 20 {
			failed = append(failed, ask{byte(1 + i%4*20), "/livez"}, ask{byte(1 + i%4*20), "/readyz"})
		}
		var errs []error
		for range 3 {
			errs = nil
			failed = slices.DeleteFunc(failed, func(a ask) bool {
				err := probeFrom(net.IPv4(127, 0, 0, a.from), "http://"+l.Addr().String()+a.path)
				if err != nil {
					errs = append(errs, err)
				}
				return err == nil
			})
		}
		for _, err := range errs {
			t.Errorf("%s: %v", when, err)
		}
	}
	flooded := make(chan struct{})
	go func() {
		defer close(flooded)
		flood()
	}()
	probe("while they connect")
	<-flooded
	probe("when they have connected")
}

// probeFrom errors: the probe was not answered, or not with success.
func probeFrom(address net.IP, url string) error {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: address}}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}
