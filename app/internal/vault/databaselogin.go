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

// ErrNoDatabaseLogin means that Vault's database engine makes no login: there is no such mount or role, or the engine
// itself cannot log in to the database.
var ErrNoDatabaseLogin = errors.New("Vault makes no database login")

// loginPause is how long a renewal that failed is not tried again while the login of before is still good.
const loginPause = 5 * time.Second

// DatabaseLogin is a user and a password that Vault's database engine made for this process. Vault drops the user when
// the lease ends, or the Vault token that it was made with, or when somebody revokes it; so a new one is made when half
// of the lease is over, after each login to Vault, and when the database refuses the one of before. It is safe for
// concurrent use.
type DatabaseLogin struct {
	session *Session
	path    string

	mu             sync.Mutex
	user, password string
	// vaultLogin is the login to Vault that it was made with.
	vaultLogin int64
	// renewAt is when a new one is to be made, expires when Vault drops the user, and lookAt when the Vault token is to
	// be looked after next.
	renewAt, expires, lookAt time.Time
}

// DatabaseLogin prepares logins of a role; it does not call Vault.
func (s *Session) DatabaseLogin(c config.VaultCredentials) *DatabaseLogin {
	return &DatabaseLogin{session: s, path: c.Mount + "/creds/" + c.Role}
}

// Current is the user and the password to log in with. It calls Vault when they have to be renewed; while Vault does
// not answer they stay the ones of before, as long as their lease lasts. Errors: ErrNoDatabaseLogin, ErrDenied,
// ErrUnavailable.
func (l *DatabaseLogin) Current(ctx context.Context) (user, password string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := l.session.now(); l.user == "" || !now.Before(l.lookAt) {
		// Others wait for this call: that whoever made it gives up must not fail them.
		if err := l.renew(context.WithoutCancel(ctx), now); err != nil {
			if l.user == "" || !now.Before(l.expires) {
				return "", "", err
			}
			l.lookAt = now.Add(loginPause)
		}
	}
	return l.user, l.password, nil
}

// Refused says that the database refuses the user: Vault has dropped it. Current then makes a new one.
func (l *DatabaseLogin) Refused(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.user == user {
		l.user, l.password = "", ""
	}
}

// renew looks after the Vault token, and makes a new login where that is due.
func (l *DatabaseLogin) renew(ctx context.Context, now time.Time) error {
	vaultLogin, due, err := l.session.keep(ctx)
	if err != nil {
		return err
	}
	if l.user == "" || !now.Before(l.renewAt) || l.vaultLogin != vaultLogin {
		if vaultLogin, err = l.read(ctx, now); err != nil {
			return err
		}
		l.vaultLogin = vaultLogin
	}
	l.lookAt = l.renewAt
	if due.Before(l.lookAt) {
		l.lookAt = due
	}
	return nil
}

// read has Vault make a user, and returns the login to Vault that it was made with.
func (l *DatabaseLogin) read(ctx context.Context, now time.Time) (vaultLogin int64, err error) {
	what := "make a database login at " + l.path
	err = l.session.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		vaultLogin = l.session.logins.Load()
		secret, err := client.Logical().ReadWithContext(ctx, l.path)
		if err != nil {
			return noDatabaseLogin(err)
		}
		if secret == nil {
			return fmt.Errorf("%w: no database engine answers", ErrNoDatabaseLogin)
		}
		user, _ := secret.Data["username"].(string)
		password, _ := secret.Data["password"].(string)
		lease := time.Duration(secret.LeaseDuration) * time.Second
		if user == "" || password == "" || lease <= 0 {
			return fmt.Errorf("%w: the answer has no user, no password or no lease", ErrNoDatabaseLogin)
		}
		l.user, l.password = user, password
		l.renewAt, l.expires = now.Add(lease/2), now.Add(lease)
		return nil
	})
	return vaultLogin, err
}

// noDatabaseLogin tells what the engine refuses from what Vault does. Vault's own words are left out where they may
// be the database's.
func noDatabaseLogin(err error) error {
	var response *api.ResponseError
	if !errors.As(err, &response) {
		return err
	}
	switch response.StatusCode {
	case http.StatusBadRequest, http.StatusNotFound:
		return fmt.Errorf("%w: %s", ErrNoDatabaseLogin, firstSentence(err))
	case http.StatusInternalServerError:
		return fmt.Errorf("%w: HTTP 500: Vault's log says why, most often that Vault itself cannot log in to the database", ErrNoDatabaseLogin)
	}
	return err
}
