package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// callTimeout bounds one call, login included. Short: a user's request may be waiting.
const callTimeout = 5 * time.Second

// maxTokenFile bounds the projected service-account token, in bytes.
const maxTokenFile = 64 << 10

// Session is one login, shared by the whole process. It is safe for concurrent use.
type Session struct {
	config config.Vault
	client *api.Client
	now    func() time.Time

	// logins counts the logins: with each the token is another one.
	logins atomic.Int64

	mu sync.Mutex
	// renewAt and expires are of the token that the client has now; zero before the first login. life is how long a
	// token lasts that is new.
	renewAt, expires time.Time
	life             time.Duration
}

// NewSession prepares a session; it does not call Vault, so that a process can start while Vault
// is away and say so by its readiness.
func NewSession(c config.Vault) (*Session, error) {
	pool, err := trustedCAs(c.CAFile)
	if err != nil {
		return nil, err
	}
	// Not the API's default transport, which takes VAULT_SKIP_VERIFY from the environment.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	transport.MaxIdleConnsPerHost = 16
	client, err := api.NewClient(&api.Config{
		Address: c.Address,
		HttpClient: &http.Client{
			Transport: transport, Timeout: callTimeout,
			// The API's client follows Vault's own redirects; net/http would follow any, with the token.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		// A retry is the caller's: it knows how long its user can wait.
		MaxRetries: 0,
	})
	if err != nil {
		return nil, fmt.Errorf("Vault client for %s: %w", c.Address, err)
	}
	client.ClearToken()
	client.ClearNamespace()
	if c.Namespace != "" {
		client.SetNamespace(c.Namespace)
	}
	return &Session{config: c, client: client, now: time.Now}, nil
}

func trustedCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // the system's
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("Vault's CA certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("Vault's CA certificates: %s holds no PEM certificate", file)
	}
	return pool, nil
}

// Call runs one API call with a live token. When Vault refuses the token it logs in again, once:
// a token may be revoked before its time.
func (s *Session) Call(ctx context.Context, what string, call func(context.Context, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	token, err := s.token(ctx, "")
	if err != nil {
		return err
	}
	err = classify(what, call(ctx, s.client))
	if !errors.Is(err, ErrDenied) {
		return err
	}
	if _, err := s.token(ctx, token); err != nil {
		return err
	}
	return classify(what, call(ctx, s.client))
}

// keep renews the token when that is due, and returns which login it is of and when it is to be looked after next.
func (s *Session) keep(ctx context.Context) (login int64, due time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, err := s.token(ctx, ""); err != nil {
		return 0, time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logins.Load(), s.renewAt, nil
}

// token returns a live token that is not the refused one. Callers wait for one login.
func (s *Session) token(ctx context.Context, refused string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now, token := s.now(), s.client.Token()
	switch {
	case token == "" || token == refused || !now.Before(s.expires):
		return s.login(ctx)
	case !now.Before(s.renewAt):
		secret, err := s.client.Auth().Token().RenewSelfWithContext(ctx, 0)
		if err != nil || secret == nil || secret.Auth == nil || time.Duration(secret.Auth.LeaseDuration)*time.Second < s.life/2 {
			// Near the most that it may live, it is replaced while there is time for what was made with it.
			return s.login(ctx)
		}
		return s.take(secret)
	default:
		return token, nil
	}
}

func (s *Session) login(ctx context.Context) (string, error) {
	what := "log in to Vault as role " + s.config.Role
	jwt, err := os.ReadFile(s.config.TokenFile)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	if len(jwt) > maxTokenFile {
		return "", fmt.Errorf("%s: %s is larger than %d bytes", what, s.config.TokenFile, maxTokenFile)
	}
	secret, err := s.client.Logical().WriteWithContext(ctx, "auth/"+s.config.AuthMount+"/login", map[string]any{
		"role": s.config.Role, "jwt": strings.TrimSpace(string(jwt)),
	})
	if err != nil {
		classified := classify(what, err)
		// A role that does not exist, or that this account is not bound to, answers 400 or 403. The
		// answer to a login names roles and accounts, no secret.
		if errors.Is(classified, ErrInvalid) || errors.Is(classified, ErrDenied) {
			return "", fmt.Errorf("%s: %w: %s", what, ErrDenied, firstSentence(err))
		}
		return "", classified
	}
	token, err := s.take(secret)
	if err == nil {
		s.logins.Add(1)
		s.life = time.Duration(secret.Auth.LeaseDuration) * time.Second
	}
	return token, err
}

// take makes the secret's token the client's.
func (s *Session) take(secret *api.Secret) (string, error) {
	if secret == nil || secret.Auth == nil || secret.Auth.ClientToken == "" {
		return "", fmt.Errorf("log in to Vault as role %s: %w: the answer holds no token", s.config.Role, ErrUnavailable)
	}
	ttl := time.Duration(secret.Auth.LeaseDuration) * time.Second
	now := s.now()
	// Between half and three quarters of the time, so that replicas do not renew at the same moment.
	s.renewAt = now.Add(ttl/2 + time.Duration(rand.Int64N(int64(ttl/4)+1))) //nolint:gosec // a jitter is no secret
	s.expires = now.Add(ttl - ttl/20)
	s.client.SetToken(secret.Auth.ClientToken)
	return secret.Auth.ClientToken, nil
}
