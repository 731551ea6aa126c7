//go:build integration

package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/hack/testenv"
)

// proxied is a service behind a proxy that passes TLS through.
type proxied struct {
	// proxy is the address that clients connect to, host:port.
	proxy string
	tls   *tls.Config
}

// serveBehindProxy serves until the test ends.
func serveBehindProxy(t *testing.T) *proxied {
	t.Helper()
	dir := t.TempDir()
	certificate := testenv.NewCertificate(t, dir)
	c := &config.Config{
		APIVersion: config.APIVersion, Kind: config.Kind,
		Deployment: config.Deployment{ID: "test", Namespace: "ns", Name: "name"},
		Listen:     testenv.FreeAddress(t), MetricsListen: testenv.FreeAddress(t),
		TLS:            &config.TLS{CertFile: certificate.CertFile, KeyFile: certificate.KeyFile},
		Database:       config.Database{SQLite: &config.SQLite{Path: filepath.Join(dir, "notes.db")}},
		Keys:           config.Keys{Local: &config.Local{File: filepath.Join(dir, "master.key")}},
		Auth:           config.Auth{Registration: config.RegistrationOpen, TokenTTL: config.Duration(time.Hour), BcryptCost: 12, MinPasswordLength: 8},
		RateLimits:     config.RateLimits{FailedLoginsPerMinute: 5, RequestsPerMinute: 1200},
		TrustedProxies: []string{"127.0.0.1"}, Log: config.LogConfig{Level: "info"},
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	cheapHashes(c)
	trust, err := newTrust(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := migrate(t.Context(), c, trust); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, 0, newLog(c.Log, os.Stderr)) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p := &proxied{proxy: testenv.StartHAProxy(t, c.Listen), tls: &tls.Config{RootCAs: certificate.Pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS13}}
	p.await(t, "the service", func() error {
		response, err := http.Get("http://" + c.MetricsListen + "/readyz")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d", response.StatusCode)
		}
		return nil
	})
	return p
}

// await waits until check is nil.
func (p *proxied) await(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// dial connects to the proxy from one of this machine's addresses.
func (p *proxied) dial(ctx context.Context, from string) (net.Conn, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	return dialer.DialContext(ctx, "tcp", p.proxy)
}

// client returns a client that sends each request from the address and over a new connection.
func (p *proxied) client(from string) *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return p.dial(ctx, from) },
		TLSClientConfig: p.tls, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
}

// login returns the status of a login as alice. header alternates names and values.
func (p *proxied) login(t *testing.T, client *http.Client, password string, header ...string) int {
	t.Helper()
	request, err := http.NewRequest(http.MethodPost, "https://"+p.proxy+"/api/auth/login", strings.NewReader(`{"username":"alice","password":"`+password+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	return response.StatusCode
}

// pileUp opens connections from an address and holds them until the test ends: some finish the
// handshake and send no request, and some do not start it. closed counts those that the service has
// closed.
func (p *proxied) pileUp(t *testing.T, from string, each int) (closed *atomic.Int64) {
	t.Helper()
	closed = &atomic.Int64{}
	for range each {
		for _, finish := range []bool{true, false} {
			conn, err := p.dial(t.Context(), from)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if finish {
				conn = tls.Client(conn, p.tls)
			}
			go func() {
				_, _ = conn.Read(make([]byte, 1)) // until it is closed; over TLS, after the handshake
				closed.Add(1)
			}()
		}
	}
	return closed
}

// TestClientsBehindPROXYProtocolAreApart checks that a client's failed logins and idle connections
// affect no other client behind the same HAProxy, which passes TLS through.
func TestClientsBehindPROXYProtocolAreApart(t *testing.T) {
	const attackerAddress, otherAddress = "127.0.0.2", "127.0.0.3"
	p := serveBehindProxy(t)
	attacker, other := p.client(attackerAddress), p.client(otherAddress)
	post(t, other, "https://"+p.proxy+"/api/auth/register", "", `{"username":"alice","password":"correct horse battery"}`)

	for i := range 5 {
		if status := p.login(t, attacker, "wrong horse battery"); status != http.StatusUnauthorized {
			t.Errorf("wrong login %d: status %d, want 401", i, status)
		}
	}
	if status := p.login(t, attacker, "wrong horse battery"); status != http.StatusTooManyRequests {
		t.Errorf("one failed login too many: status %d, want 429", status)
	}
	// An HTTP header comes from the client, because TLS passes through the proxy. Only the PROXY
	// header comes from the proxy.
	if status := p.login(t, attacker, "wrong horse battery", "X-Forwarded-For", "192.0.2.1"); status != http.StatusTooManyRequests {
		t.Errorf("a failed login that claims another address: status %d, want 429", status)
	}
	if status := p.login(t, other, "correct horse battery"); status != http.StatusOK {
		t.Errorf("the other client's login: status %d, want 200", status)
	}

	closed := p.pileUp(t, attackerAddress, 400)
	p.await(t, "the bound on connections of an address", func() error {
		if closed.Load() == 0 {
			return fmt.Errorf("none of the attacker's connections has been closed")
		}
		return nil
	})
	for range 10 {
		if status := p.login(t, other, "correct horse battery"); status != http.StatusOK {
			t.Fatalf("the other client's login beside idle connections: status %d, want 200", status)
		}
	}
}
