// Package vaultlogin is the login to Vault of both programs, the operator and the service. It logs
// in with the pod's projected service-account token, renews the Vault token, and logs in again when
// Vault no longer accepts it. Start at [Login.Call].
//
// Each program words the errors itself. Those of this package name paths, and never quote a token
// or an answer.
package vaultlogin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/vault/api"
	"k8s.io/apimachinery/pkg/util/wait"
)

// maxTokenFile bounds the service-account token, in bytes.
const maxTokenFile = 64 << 10

// renewPath is the API path that renews a token.
const renewPath = "auth/token/renew-self"

// Reasons of an [Error] that are not an answer of Vault.
var (
	// ErrTokenFile means that the service-account token cannot be read.
	ErrTokenFile = errors.New("the service-account token cannot be read")
	// ErrNoToken means that Vault accepted the login, and returned no token.
	ErrNoToken = errors.New("the answer holds no token")
)

// Error is a login or a renewal that failed.
type Error struct {
	// Path of the API.
	Path string
	Err  error
}

func (e *Error) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the reason: an error of package api, ErrTokenFile or ErrNoToken.
func (e *Error) Unwrap() error { return e.Err }

// Login is one login to one Vault, shared by the whole process. It is safe for concurrent use.
//
// It is not an api.LifetimeWatcher: that renews right after each login, needs a goroutine for every
// Vault, also for one that nobody calls, and has no clock that a test can turn.
type Login struct {
	options Options
	// client has the token; anonymous, which logs in, never has one.
	client, anonymous *api.Client
	// logins counts the logins: each of them brings another token.
	logins atomic.Int64

	mu    sync.Mutex
	token string // empty before the first login, and after Vault rejected it
	// life is how long a token of a login lasts.
	life                         time.Duration
	loggedInAt, renewAt, expires time.Time
	// failure is why the last login failed. It is returned until retryAt.
	failure error
	retryAt time.Time
}

// New prepares a login. It does not call Vault. Errors: CAs or an address that cannot be parsed.
func New(o Options) (*Login, error) {
	client, err := newClient(o)
	if err != nil {
		return nil, err
	}
	anonymous, err := client.CloneWithHeaders()
	if err != nil {
		return nil, err
	}
	anonymous.ClearToken() // VAULT_TOKEN
	return &Login{options: o, client: client, anonymous: anonymous}, nil
}

// Call runs do with a client that has a live token. If do fails with HTTP 403, the token may have
// been revoked: Call logs in again and runs do once more. Errors: those of do; *[Error].
func (l *Login) Call(ctx context.Context, do func(*api.Client) error) error {
	token, err := l.liveToken(ctx)
	if err != nil {
		return err
	}
	err = do(l.client)
	if !isForbidden(err) || !l.reject(token) {
		return err
	}
	if _, err := l.liveToken(ctx); err != nil {
		return err
	}
	return do(l.client)
}

// Logins returns the number of logins so far.
func (l *Login) Logins() int64 { return l.logins.Load() }

// Renew logs in, or renews the token, if that is due. It returns the number of logins so far, and
// when the token is to be renewed next.
func (l *Login) Renew(ctx context.Context) (logins int64, next time.Time, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.ensure(ctx); err != nil {
		return 0, time.Time{}, err
	}
	return l.logins.Load(), l.renewAt, nil
}

func (l *Login) liveToken(ctx context.Context) (string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.ensure(ctx)
	return l.token, err
}

// reject drops a token that Vault does not accept. It reports whether another try may succeed:
// because the token was old, or because another call has replaced it already.
func (l *Login) reject(token string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.token != token {
		return true
	}
	if l.options.Now().Sub(l.loggedInAt) < l.options.MinTokenAge {
		return false
	}
	l.token = ""
	return true
}

// ensure makes the token a live one. Callers hold the lock, so that they wait for one login.
func (l *Login) ensure(ctx context.Context) error {
	now := l.options.Now()
	if l.token != "" && now.Before(l.renewAt) {
		return nil
	}
	if l.token != "" && now.Before(l.expires) {
		renewed, err := l.renew(ctx)
		if err != nil || renewed {
			return err
		}
	}
	l.token = ""
	if now.Before(l.retryAt) {
		return l.failure
	}
	if err := l.logIn(ctx); err != nil {
		if !errors.Is(err, context.Canceled) {
			// From now on: Vault may have taken longer than the pause to answer.
			pause := l.options.FailurePause
			l.failure, l.retryAt = err, l.options.Now().Add(wait.Jitter(pause*9/10, 1.0/9))
		}
		return err
	}
	l.failure, l.retryAt, l.loggedInAt = nil, time.Time{}, now
	return nil
}

// renew reports whether the token was renewed. Otherwise another login must replace it: Vault does
// not renew it, or not for long. Near the end of its longest life it is replaced while there is
// time to replace what was created with it. Error: Vault does not answer in time.
func (l *Login) renew(ctx context.Context) (bool, error) {
	secret, err := l.client.Auth().Token().RenewSelfWithContext(ctx, 0)
	if timedOut(err) {
		return false, &Error{Path: renewPath, Err: err}
	}
	renewed := err == nil && hasToken(secret) && lifeOf(secret) >= l.life/2
	if renewed {
		l.keep(secret)
	}
	return renewed, nil
}

func (l *Login) logIn(ctx context.Context) error {
	path := "auth/" + l.options.AuthMount + "/login"
	jwt, err := accountToken(l.options.TokenFile)
	if err != nil {
		return &Error{Path: path, Err: fmt.Errorf("%w: %w", ErrTokenFile, err)}
	}
	// Not package api/auth/kubernetes: where the file is empty, it sends the token for the API
	// server.
	secret, err := l.anonymous.Logical().WriteWithContext(ctx, path, map[string]any{"role": l.options.Role, "jwt": jwt})
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	if !hasToken(secret) {
		return &Error{Path: path, Err: ErrNoToken}
	}
	l.life = lifeOf(secret)
	l.keep(secret)
	l.logins.Add(1)
	return nil
}

// keep makes the secret's token the client's.
func (l *Login) keep(secret *api.Secret) {
	life, now := lifeOf(secret), l.options.Now()
	// Between half and two thirds of its life, so that replicas do not renew at the same moment.
	l.renewAt = now.Add(wait.Jitter(life/2, 1.0/3))
	l.expires = now.Add(life - life/20)
	l.token = secret.Auth.ClientToken
	l.client.SetToken(l.token)
}

// accountToken reads the token that the kubelet renews, so it is read for each login.
func accountToken(file string) (string, error) {
	jwt, err := os.ReadFile(file)
	switch {
	case err != nil:
		return "", err
	case len(jwt) > maxTokenFile:
		return "", fmt.Errorf("%s is larger than %d bytes", file, maxTokenFile)
	}
	token := strings.TrimSpace(string(jwt))
	if token == "" {
		return "", fmt.Errorf("%s is empty", file)
	}
	return token, nil
}

func hasToken(secret *api.Secret) bool {
	return secret != nil && secret.Auth != nil && secret.Auth.ClientToken != ""
}

// lifeOf returns how long the secret's token lasts. One without an end is looked at every hour.
func lifeOf(secret *api.Secret) time.Duration {
	if seconds := secret.Auth.LeaseDuration; seconds > 0 {
		return time.Duration(seconds) * time.Second
	}
	return time.Hour
}

func isForbidden(err error) bool {
	response, ok := errors.AsType[*api.ResponseError](err)
	return ok && response.StatusCode == http.StatusForbidden
}

// timedOut reports whether a call ended without an answer because it took too long.
func timedOut(err error) bool {
	cause, ok := errors.AsType[net.Error](err)
	return ok && cause.Timeout()
}
