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

const (
	// lookPause is the least time between two tries to look after a login.
	lookPause = time.Second
	// refusedPause is how long a login is used on that the database refuses.
	refusedPause = 5 * time.Second
)

// DatabaseLogin is a user and a password that Vault's database engine made for this process. Vault drops the user when
// the lease ends, or the Vault token that it was made with, or when somebody revokes it; so a new one is made when half
// of the lease is over, after each login to Vault, and when the database refuses the one of before. It is safe for
// concurrent use.
type DatabaseLogin struct {
	session *Session
	path    string

	mu sync.Mutex
	// login is the one of now; none was made, or it was refused, where its user is empty.
	login login
	// lookAt is when the login and the Vault token are to be looked after next.
	lookAt time.Time
	// looking is closed when those who are looking after it have ended; nil: nobody is.
	looking chan struct{}
	// err is why there is no login.
	err error
}

type login struct {
	user, password string
	// vaultLogin is the login to Vault that it was made with.
	vaultLogin int64
	// made is when it was, renewAt when a new one is to be, and expires when Vault drops the user.
	made, renewAt, expires time.Time
}

func (l login) good(now time.Time) bool { return l.user != "" && now.Before(l.expires) }

// DatabaseLogin prepares logins of a role; it does not call Vault.
func (s *Session) DatabaseLogin(c config.VaultCredentials) *DatabaseLogin {
	return &DatabaseLogin{session: s, path: c.Mount + "/creds/" + c.Role}
}

// Current is the user and the password to log in with. It waits for Vault only where there is none whose lease lasts:
// else they are renewed meanwhile. Errors: ErrNoDatabaseLogin, ErrDenied, ErrUnavailable.
func (l *DatabaseLogin) Current(ctx context.Context) (user, password string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		now := l.session.now()
		l.lookIfDue(ctx, now)
		switch {
		case l.login.good(now):
			return l.login.user, l.login.password, nil
		case l.looking == nil:
			return "", "", l.err
		}
		looking := l.looking
		l.mu.Unlock()
		select {
		case <-looking:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if ctx.Err() != nil {
			return "", "", ctx.Err()
		}
	}
}

// Replaced says whether there is another login than the user's. It never waits.
func (l *DatabaseLogin) Replaced(ctx context.Context, user string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookIfDue(ctx, l.session.now())
	return l.login.user != "" && l.login.user != user
}

func (l *DatabaseLogin) lookIfDue(ctx context.Context, now time.Time) {
	if l.looking == nil && !now.Before(l.lookAt) {
		l.looking = make(chan struct{})
		// Others wait for it, too: that whoever began it gives up must not fail them.
		go l.look(context.WithoutCancel(ctx), l.login)
	}
}

// Refused says that the database refuses the user: Vault has dropped it. Current then makes a new one, but for one that
// had just been made: a server to which it has yet to be replicated may know it soon, and one that refuses all is not to
// have no end of them.
func (l *DatabaseLogin) Refused(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.login.user == user && l.session.now().Sub(l.login.made) >= refusedPause {
		l.lookAt = time.Time{}
		l.login, l.err = login{}, fmt.Errorf("%w: the database refuses the one that was made at %s", ErrNoDatabaseLogin, l.path)
	}
}

// Keep looks after the login until ctx ends, however seldom it is asked for: a statement may take longer than the Vault
// token lasts with which its user was made.
func (l *DatabaseLogin) Keep(ctx context.Context) {
	tick := time.NewTicker(lookPause)
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

// look looks after the Vault token, and makes a new login where that is due.
func (l *DatabaseLogin) look(ctx context.Context, now login) {
	next, due, err := l.renewed(ctx, now)
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.looking)
	l.looking = nil
	if err != nil {
		l.err, l.lookAt = err, l.session.now().Add(lookPause)
		return
	}
	if next != now {
		l.login = next
	} else if l.login != now {
		return // refused meanwhile
	}
	l.lookAt = due
}

// renewed is the login, or another one in its place, and when to look after it next.
func (l *DatabaseLogin) renewed(ctx context.Context, now login) (login, time.Time, error) {
	vaultLogin, due, err := l.session.renew(ctx)
	if err != nil {
		return login{}, time.Time{}, err
	}
	if at := l.session.now(); now.user == "" || !at.Before(now.renewAt) || now.vaultLogin != vaultLogin {
		if now, err = l.read(ctx); err != nil {
			return login{}, time.Time{}, err
		}
	}
	if now.renewAt.Before(due) {
		due = now.renewAt
	}
	return now, due, nil
}

// read has Vault make a user.
func (l *DatabaseLogin) read(ctx context.Context) (login, error) {
	made := login{made: l.session.now()}
	what := "make a database login at " + l.path
	err := l.session.Call(ctx, what, func(ctx context.Context, client *api.Client) error {
		made.vaultLogin = l.session.login.Logins()
		secret, err := client.Logical().ReadWithContext(ctx, l.path)
		if err != nil {
			return noDatabaseLogin(err)
		}
		if secret == nil {
			return fmt.Errorf("%w: no database engine answers", ErrNoDatabaseLogin)
		}
		made.user, _ = secret.Data["username"].(string)
		made.password, _ = secret.Data["password"].(string)
		lease := time.Duration(secret.LeaseDuration) * time.Second
		if made.user == "" || made.password == "" || lease <= 0 {
			return fmt.Errorf("%w: the answer has no user, no password or no lease", ErrNoDatabaseLogin)
		}
		made.renewAt, made.expires = made.made.Add(lease/2), made.made.Add(lease)
		return nil
	})
	return made, err
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
