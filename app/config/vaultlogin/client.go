package vaultlogin

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"time"

	"github.com/hashicorp/vault/api"
)

// idleConnections to one Vault are kept open: as many as a busy service has calls under way.
const idleConnections = 16

// newClient returns a client that takes nothing from the environment: neither VAULT_SKIP_VERIFY,
// which would send the token to anybody, nor VAULT_TLS_SERVER_NAME, nor a proxy.
func newClient(o Options) (*api.Client, error) {
	var pool *x509.CertPool // nil: the system's
	if len(o.CAs) > 0 {
		pool = x509.NewCertPool()
		if !pool.AppendCertsFromPEM(o.CAs) {
			return nil, errors.New("the CA bundle holds no PEM certificate")
		}
	}
	// Not the default transport of package api, which reads the environment.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	transport.MaxIdleConnsPerHost = idleConnections
	client, err := api.NewClient(&api.Config{
		Address: o.Address,
		HttpClient: &http.Client{
			Transport: transport, Timeout: o.Timeout,
			// Package api follows one redirect of Vault, and none from https to http. net/http
			// would follow any, and send the token along.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Timeout: o.Timeout,
		// The caller retries: it knows how long it can wait.
		MaxRetries: 0,
	})
	if err != nil {
		return nil, err
	}
	client.ClearToken()
	// This drops VAULT_NAMESPACE and VAULT_HEADERS.
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	return client, nil
}

// Options are the address of Vault, the identity to log in with, and the limits of a login.
type Options struct {
	// Address is an https URL.
	Address string
	// CAs are the PEM certificates that Vault's certificate must chain to. Empty: the system's.
	CAs []byte
	// Namespace is a Vault Enterprise namespace. Empty: none.
	Namespace string
	// AuthMount is the mount of the Kubernetes auth method, without slashes around it.
	AuthMount string
	// Role to log in as.
	Role string
	// TokenFile is the projected service-account token.
	TokenFile string

	// Timeout bounds one request.
	Timeout time.Duration
	// MinTokenAge is how old a token must be before a 403 leads to another login. A client that
	// calls for many objects does not log in for each of them when its role lacks a right.
	MinTokenAge time.Duration
	// FailurePause is how long a failed login is remembered: calls fail at once in that time.
	FailurePause time.Duration
	// Now is the clock.
	Now func() time.Time
}
