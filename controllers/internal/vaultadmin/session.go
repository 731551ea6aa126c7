package vaultadmin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/config/vaultlogin"
)

const (
	// requestTimeout bounds one request to Vault.
	requestTimeout = 10 * time.Second
	// minTokenAge is how old a token must be before a 403 makes the operator log in again. Its
	// policies may have changed since; but a new login for each of many objects would gain no
	// right.
	minTokenAge = 30 * time.Second
	// loginPause is how long a failed login is remembered, so that a thousand objects do not log in
	// a thousand times to a Vault that refuses.
	loginPause = 5 * time.Second
)

// session is one login to one Vault, shared by the whole process.
type session struct {
	connection Connection
	login      *vaultlogin.Login
	gate       *gate
	now        func() time.Time
}

func newSession(connection Connection, now func() time.Time) (*session, error) {
	login, err := vaultlogin.New(vaultlogin.Options{
		Address: connection.Address, CAs: []byte(connection.CABundle), Namespace: connection.Namespace,
		AuthMount: connection.AuthMount, Role: config.RoleOperator, TokenFile: connection.TokenFile,
		Timeout: requestTimeout, MinTokenAge: minTokenAge, FailurePause: loginPause, Now: now,
	})
	if err != nil {
		return nil, fmt.Errorf("vault connection %s: %w", connection.Name, err)
	}
	return &session{connection: connection, login: login, gate: newGate(connection.Address, now), now: now}, nil
}

// call runs do with a token that Vault should accept, when the gate lets it pass. Error: *[Error].
func (s *session) call(ctx context.Context, path string, do func(*api.Logical) error) error {
	return s.gate.pass(ctx, func() error {
		err := s.login.Call(ctx, func(client *api.Client) error { return do(client.Logical()) })
		if failure, ok := errors.AsType[*vaultlogin.Error](err); ok {
			return s.loginError(failure)
		}
		return classify(s.connection.Address, path, err)
	})
}

// loginError tells the administrator why the operator has no token.
func (s *session) loginError(failure *vaultlogin.Error) error {
	switch {
	case errors.Is(failure, vaultlogin.ErrTokenFile):
		return &Error{Problem: SetupMissing, cause: failure.Err, message: fmt.Sprintf(
			"the operator's service-account token for the Vault connection %s cannot be read: its Deployment must mount one with audience %s",
			s.connection.Name, s.connection.Audience)}
	case errors.Is(failure, vaultlogin.ErrNoToken):
		return problem(Unexpected, "Vault at %s answered the operator's login without a token", s.connection.Address)
	}
	err := classify(s.connection.Address, failure.Path, failure.Err)
	if ProblemOf(err) == Sealed || ProblemOf(err) == Unreachable {
		// A Kubernetes auth method that has no configuration or no token reviewer answers 500. That
		// is missing set-up, too, but it looks like a passing fault.
		return err
	}
	return &Error{Problem: SetupMissing, cause: failure.Err, message: fmt.Sprintf(
		"Vault at %s refuses the operator's login as role %s on %s (HTTP %d)",
		s.connection.Address, config.RoleOperator, failure.Path, statusCode(failure.Err))}
}

func statusCode(err error) int {
	if response, ok := errors.AsType[*api.ResponseError](err); ok {
		return response.StatusCode
	}
	return 0
}
