package vaultadmin

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
)

const (
	// requestTimeout bounds one request to Vault.
	requestTimeout = 10 * time.Second
	// minTokenAge is how old a token must be before a refusal makes the operator log in anew: a right
	// that a new token lacks too is not gained by logging in for every object.
	minTokenAge = 30 * time.Second
	// loginPause is how long a failed login is remembered, so that a thousand objects do not log in
	// a thousand times to a Vault that refuses.
	loginPause = 5 * time.Second
)

// session is one login to one Vault, shared by the whole process. It renews its token when two
// thirds of its life are over, and logs in again when Vault no longer accepts it.
type session struct {
	connection Connection
	client     *api.Client
	now        func() time.Time
	gate       *gate

	mu         sync.Mutex
	token      string
	loggedInAt time.Time
	renewAt    time.Time
	expiresAt  time.Time
	loginError error
	retryAt    time.Time
}

func newSession(connection Connection, now func() time.Time) (*session, error) {
	client, err := newAPIClient(connection)
	if err != nil {
		return nil, err
	}
	return &session{connection: connection, client: client, now: now, gate: newGate(connection.Address, now)}, nil
}

// newAPIClient makes a client that takes nothing from the environment: neither VAULT_SKIP_VERIFY,
// which would send the operator's token to anybody, nor VAULT_TLS_SERVER_NAME, nor a proxy.
func newAPIClient(connection Connection) (*api.Client, error) {
	pool, err := trustedCAs(connection)
	if err != nil {
		return nil, err
	}
	// Not the API's default transport, which takes all of them.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	client, err := api.NewClient(&api.Config{
		Address: connection.Address,
		HttpClient: &http.Client{
			Transport: transport, Timeout: requestTimeout,
			// api follows Vault's own redirects, and none from https to http.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		Timeout:    requestTimeout,
		MaxRetries: 0,
	})
	if err != nil {
		return nil, fmt.Errorf("vault connection %s: %w", connection.Name, err)
	}
	client.ClearToken()
	// Without VAULT_NAMESPACE and VAULT_HEADERS.
	client.SetHeaders(http.Header{api.RequestHeaderName: {"true"}})
	if connection.Namespace != "" {
		client.SetNamespace(connection.Namespace)
	}
	return client, nil
}

func trustedCAs(connection Connection) (*x509.CertPool, error) {
	if connection.CABundle == "" {
		return nil, nil // the system's
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(connection.CABundle)) {
		return nil, fmt.Errorf("vault connection %s: caBundle holds no PEM certificate", connection.Name)
	}
	return pool, nil
}

// call runs do with a token that Vault should accept. If Vault does not, it logs in once more and
// tries again: a token may have been revoked, or policies changed since it was made.
func (s *session) call(ctx context.Context, path string, do func(*api.Logical) error) error {
	return s.gate.pass(ctx, func() error { return s.ungatedCall(ctx, path, do) })
}

func (s *session) ungatedCall(ctx context.Context, path string, do func(*api.Logical) error) error {
	for attempt := 0; ; attempt++ {
		token, err := s.ensureToken(ctx)
		if err != nil {
			return err
		}
		// A client of its own for each call: the token is a field of the client.
		client, err := s.client.CloneWithHeaders()
		if err != nil {
			return fmt.Errorf("vault connection %s: %w", s.connection.Name, err)
		}
		client.SetToken(token)
		err = do(client.Logical())
		if isStatus(err, http.StatusForbidden) && attempt == 0 && s.forget(token) {
			continue
		}
		return classify(s.connection.Address, path, err)
	}
}

// forget drops token and says whether trying again may help: because this token is old, or because
// another call has already replaced it.
func (s *session) forget(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.token != token {
		return true
	}
	if s.now().Sub(s.loggedInAt) < minTokenAge {
		return false
	}
	s.token = ""
	return true
}

func (s *session) ensureToken(ctx context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if s.token != "" && now.Before(s.renewAt) {
		return s.token, nil
	}
	if s.token != "" && now.Before(s.expiresAt) {
		err := s.renew(ctx)
		if err == nil {
			return s.token, nil
		}
		if timedOut(err) {
			return "", classify(s.connection.Address, "auth/token/renew-self", err)
		}
		// A token that Vault does not renew is replaced.
		s.token = ""
	}
	if now.Before(s.retryAt) {
		return "", s.loginError
	}
	if err := s.login(ctx); err != nil {
		// From now: the login may have waited for an answer for longer than the pause.
		s.loginError, s.retryAt = err, s.now().Add(jitter.Shorter(loginPause))
		return "", err
	}
	s.loginError, s.retryAt, s.loggedInAt = nil, time.Time{}, now
	return s.token, nil
}

func (s *session) login(ctx context.Context) error {
	jwt, err := os.ReadFile(s.connection.TokenFile)
	if err != nil {
		return &Error{Problem: SetupMissing, cause: err, message: fmt.Sprintf(
			"the operator's service-account token for the Vault connection %s cannot be read: its Deployment must mount one with audience %s",
			s.connection.Name, s.connection.Audience)}
	}
	path := "auth/" + s.connection.AuthMount + "/login"
	secret, err := s.client.Logical().WriteWithContext(ctx, path, map[string]any{
		"role": config.RoleOperator, "jwt": strings.TrimSpace(string(jwt)),
	})
	if err != nil {
		if classified := classify(s.connection.Address, path, err); ProblemOf(classified) == Sealed || ProblemOf(classified) == Unreachable {
			// A Kubernetes auth method without configuration, or whose token reviewer is missing,
			// answers 500: that is set-up too, but it cannot be told from a passing fault.
			return classified
		}
		return &Error{Problem: SetupMissing, cause: err, message: fmt.Sprintf(
			"Vault at %s refuses the operator's login as role %s on %s (HTTP %d)",
			s.connection.Address, config.RoleOperator, path, statusCode(err))}
	}
	return s.keep(secret)
}

func (s *session) renew(ctx context.Context) error {
	client, err := s.client.CloneWithHeaders()
	if err != nil {
		return err
	}
	client.SetToken(s.token)
	secret, err := client.Logical().WriteWithContext(ctx, "auth/token/renew-self", map[string]any{})
	if err != nil {
		return err
	}
	return s.keep(secret)
}

func (s *session) keep(secret *api.Secret) error {
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return problem(Unexpected, "Vault at %s answered the operator's login without a token", s.connection.Address)
	}
	life := time.Duration(secret.Auth.LeaseDuration) * time.Second
	if life <= 0 {
		life = time.Hour
	}
	now := s.now()
	s.token, s.renewAt, s.expiresAt = secret.Auth.ClientToken, now.Add(jitter.Shorter(life*2/3)), now.Add(life)
	return nil
}

func statusCode(err error) int {
	if response, ok := errors.AsType[*api.ResponseError](err); ok {
		return response.StatusCode
	}
	return 0
}
