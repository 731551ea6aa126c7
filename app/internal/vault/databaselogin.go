package vault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/securenotes/securenotes/app/config"
)

// ErrNoDatabaseLogin means that Vault's database engine creates no user: the mount or the role does
// not exist, or Vault itself cannot log in to the database.
var ErrNoDatabaseLogin = errors.New("Vault creates no database user")

const (
	// retryPause is the shortest time between two attempts to renew.
	retryPause = time.Second
	// refusedPause is how long a new user is kept although the database refuses it.
	refusedPause = 5 * time.Second
)

// DatabaseLogin is a user and a password that Vault's database engine creates for this process.
// Vault drops the user when its lease ends, when the Vault token that created it ends, or when
// somebody revokes it. So it is replaced after half of its lease, after each login to Vault, and
// when the database refuses it. It is safe for concurrent use.
type DatabaseLogin struct {
	session *Session
	path    string

	mu sync.Mutex
	// current has no user before the first one was created, and after the database refused it.
	current credentials
	// renewAt is when the credentials or the Vault token must be renewed next.
	renewAt time.Time
	// renewing is closed when the renewal in progress ends; nil: there is none.
	renewing chan struct{}
	// err is why there are no credentials.
	err error
}

type credentials struct {
	user, password string
	// vaultLogin is the number of the login to Vault that created the user.
	vaultLogin int64
	// Vault drops the user at expires.
	created, renewAt, expires time.Time
}

func (c credentials) valid(now time.Time) bool { return c.user != "" && now.Before(c.expires) }

// DatabaseLogin prepares a login with a role. It does not call Vault.
func (s *Session) DatabaseLogin(c config.VaultCredentials) *DatabaseLogin {
	return &DatabaseLogin{session: s, path: c.Mount + "/creds/" + c.Role}
}

// Current returns the user and the password to log in with. It waits for Vault only if there are no
// valid ones; otherwise they are renewed in the background. Errors: ErrNoDatabaseLogin, ErrDenied,
// ErrUnavailable.
func (l *DatabaseLogin) Current(ctx context.Context) (user, password string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		now := l.session.now()
		l.renewIfDue(ctx, now)
		switch {
		case l.current.valid(now):
			return l.current.user, l.current.password, nil
		case l.renewing == nil:
			return "", "", l.err
		}
		renewing := l.renewing
		l.mu.Unlock()
		select {
		case <-renewing:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
	}
}

// Replaced reports whether another user has replaced user. It never waits.
func (l *DatabaseLogin) Replaced(ctx context.Context, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.renewIfDue(ctx, l.session.now())
	return l.current.user != "" && l.current.user != user
}

func (l *DatabaseLogin) renewIfDue(ctx context.Context, now time.Time) {
	if l.renewing == nil && !now.Before(l.renewAt) {
		l.renewing = make(chan struct{})
		// Other callers wait for it, too, and must not fail when this one gives up.
		go l.renew(context.WithoutCancel(ctx), l.current)
	}
}

// Refused tells that the database refuses the user, because Vault has dropped it. Current then
// creates another one, unless the user is new. A replica may not know a new user yet, and a server
// that refuses every user must not get them endlessly.
func (l *DatabaseLogin) Refused(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current.user == user && l.session.now().Sub(l.current.created) >= refusedPause {
		l.renewAt = time.Time{}
		l.current, l.err = credentials{}, fmt.Errorf("%w: the database refuses the user that was created at %s", ErrNoDatabaseLogin, l.path)
	}
}

// Run renews the credentials until ctx ends, also when nobody asks for them: a statement may run
// longer than the Vault token lasts that created its user.
func (l *DatabaseLogin) Run(ctx context.Context) {
	tick := time.NewTicker(retryPause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.Replaced(ctx, "")
		}
	}
}

// renew renews the Vault token, and replaces the old credentials if that is due.
func (l *DatabaseLogin) renew(ctx context.Context, old credentials) {
	renewed, next, err := l.renewed(ctx, old)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.renewing)
	l.renewing = nil
	if err != nil {
		l.err, l.renewAt = err, l.session.now().Add(retryPause)
		return
	}
	if renewed != old {
		l.current = renewed
	} else if l.current != old {
		return // the database refused it meanwhile
	}
	l.renewAt = next
}

// renewed returns the old credentials or new ones, and when the next renewal is due.
func (l *DatabaseLogin) renewed(ctx context.Context, old credentials) (credentials, time.Time, error) {
	vaultLogin, next, err := l.session.renew(ctx)
	if err != nil {
		return credentials{}, time.Time{}, err
	}
	if now := l.session.now(); old.user == "" || !now.Before(old.renewAt) || old.vaultLogin != vaultLogin {
		if old, err = l.create(ctx); err != nil {
			return credentials{}, time.Time{}, err
		}
	}
	if old.renewAt.Before(next) {
		next = old.renewAt
	}
	return old, next, nil
}

// create makes Vault create a user.
func (l *DatabaseLogin) create(ctx context.Context) (credentials, error) {
	c := credentials{created: l.session.now()}
	what := "create a database user at " + l.path
	err := l.session.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		c.vaultLogin = l.session.login.Logins()
		secret, err := client.Logical().ReadWithContext(ctx, l.path)
		if err != nil {
			return noDatabaseLogin(err)
		}
		if secret == nil {
			return fmt.Errorf("%w: no database engine answers", ErrNoDatabaseLogin)
		}
		c.user, _ = secret.Data["username"].(string)
		c.password, _ = secret.Data["password"].(string)
		lease := time.Duration(secret.LeaseDuration) * time.Second
		if c.user == "" || c.password == "" || lease <= 0 {
			return fmt.Errorf("%w: the answer has no user, no password or no lease", ErrNoDatabaseLogin)
		}
		c.renewAt, c.expires = c.created.Add(lease/2), c.created.Add(lease)
		return nil
	})
	return c, err
}

// noDatabaseLogin returns an ErrNoDatabaseLogin if the database engine refuses, and otherwise err.
// It leaves out Vault's text if that may quote the database.
func noDatabaseLogin(err error) error {
	response, ok := errors.AsType[*api.ResponseError](err)
	if !ok {
		return err
	}
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNoDatabaseLogin, firstMessage(err))
	case http.StatusInternalServerError:
		return fmt.Errorf("%w: HTTP 500: Vault's log says why, most often that Vault itself cannot log in to the database", ErrNoDatabaseLogin)
	}
	return err
}
