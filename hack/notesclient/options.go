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

// Options say how a client connects. Each connection is of TLS 1.3.
type Options struct {
	// RootCAs verify the service's certificate; nil: those of the system.
	RootCAs *x509.CertPool
	// Timeout bounds a request with its answer; 0: the request's context does.
	Timeout time.Duration
	// HTTP2 uses HTTP/2 instead of HTTP/1.1.
	HTTP2 bool
	// ConnectionPerRequest opens a connection for each request: behind a load balancer, each goes
	// to a replica of its own.
	ConnectionPerRequest bool
	// LocalAddress is the IP address that connections come from; empty: the system chooses.
	LocalAddress string
}

// idleConnections is how many connections of HTTP/1.1 are kept between requests.
const idleConnections = 16

// HTTPClient returns an HTTP client that connects as the options say.
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
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}
