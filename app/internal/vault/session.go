package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/vaultlogin"
)

// callTimeout bounds one call, login included. It is short because a user's request may be waiting.
const callTimeout = 5 * time.Second

// Session is the process's login to Vault and what the service does there. It is safe for
// concurrent use.
type Session struct {
	config config.Vault
	login  *vaultlogin.Login
	now    func() time.Time
}

// NewSession prepares a session. It does not call Vault: a process can start while Vault is away,
// and report that by its readiness.
func NewSession(c config.Vault) (*Session, error) { return newSession(c, time.Now) }

func newSession(c config.Vault, now func() time.Time) (*Session, error) {
	var certificates []byte
	if c.CAFile != "" {
		var err error
		if certificates, err = os.ReadFile(c.CAFile); err != nil {
			return nil, fmt.Errorf("Vault's CA certificates: %w", err)
		}
		if len(certificates) == 0 {
			return nil, fmt.Errorf("Vault's CA certificates: %s is empty", c.CAFile)
		}
	}
	login, err := vaultlogin.New(vaultlogin.Options{
		Address: c.Address, CAs: certificates, Namespace: c.Namespace,
		AuthMount: c.AuthMount, Role: c.Role, TokenFile: c.TokenFile, Timeout: callTimeout, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("Vault client for %s: %w", c.Address, err)
	}
	return &Session{config: c, login: login, now: now}, nil
}

// Call runs one API call with a live token. If Vault rejects the token, Call logs in again and runs
// the API call once more. Errors: ErrUnavailable, ErrSealed, ErrDenied, ErrNotFound, ErrInvalid,
// and those of call; what begins their text.
func (s *Session) Call(ctx context.Context, what string, call func(context.Context, *api.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := s.login.Call(ctx, func(client *api.Client) error { return call(ctx, client) })
	if failure, ok := errors.AsType[*vaultlogin.Error](err); ok {
		return s.loginError(failure)
	}
	return classify(what, err)
}

// renew renews the token if that is due. It returns the number of logins so far, and when the token
// is to be renewed next.
func (s *Session) renew(ctx context.Context) (logins int64, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	logins, next, err = s.login.Renew(ctx)
	if failure, ok := errors.AsType[*vaultlogin.Error](err); ok {
		err = s.loginError(failure)
	}
	return logins, next, err
}

// loginError says in this package's words why there is no token.
func (s *Session) loginError(failure *vaultlogin.Error) error {
	what := "log in to Vault as role " + s.config.Role
	if errors.Is(failure, vaultlogin.ErrTokenFile) || errors.Is(failure, vaultlogin.ErrNoToken) {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, failure.Err)
	}
	err := classify(what, failure.Err)
	// A role that does not exist, or that this account is not bound to, is answered with 400 or
	// 403. The answer to a login names roles and accounts, and no secret.
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrDenied) {
		return fmt.Errorf("%s: %w: %s", what, ErrDenied, firstMessage(failure.Err))
	}
	return err
}
