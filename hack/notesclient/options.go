package notesclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

// Options define how a client connects. Every connection uses TLS 1.3.
type Options struct {
	// RootCAs verify the service's certificate. If nil, the system's CAs do.
	RootCAs *x509.CertPool
	// Timeout bounds a request and its answer. If 0, only the request's context does.
	Timeout time.Duration
	// HTTP2 uses HTTP/2 instead of HTTP/1.1.
	HTTP2 bool
	// ConnectionPerRequest opens a connection for each request, so that a load balancer chooses a
	// replica for each.
	ConnectionPerRequest bool
	// LocalAddress is the source IP address of connections. If empty, the system chooses it.
	LocalAddress string
}

// idleConnections is how many HTTP/1.1 connections are kept open between requests.
const idleConnections = 16

// HTTPClient returns an HTTP client with these options.
func (o Options) HTTPClient() *http.Client {
	protocols := &http.Protocols{}
	protocols.SetHTTP1(!o.HTTP2)
	protocols.SetHTTP2(o.HTTP2)
	dialer := &net.Dialer{}
	if o.LocalAddress != "" {
		dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.LocalAddress)}
	}
	return &http.Client{Timeout: o.Timeout, Transport: &http.Transport{
		DialContext: dialer.DialContext, Protocols: protocols, MaxIdleConnsPerHost: idleConnections, DisableKeepAlives: o.ConnectionPerRequest,
		TLSClientConfig: &tls.Config{RootCAs: o.RootCAs, MinVersion: tls.VersionTLS13},
	}}
}

// RootCAs reads certificates from a PEM file.
func RootCAs(file string) (*x509.CertPool, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s contains no certificate", file)
	}
	return pool, nil
}
