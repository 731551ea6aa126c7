//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"testing"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// TestReplicasAgree calls two replicas alternately. A logout, a revoked session, a changed
// password, the limit of failed logins and the deletion of an account take effect on the other
// replica with the next request.
func TestReplicasAgree(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	pods := c.apiPods(t, c.namespace, c.name)
	if len(pods) < 2 {
		t.Fatalf("the sample has %d pods, want 2", len(pods))
	}
	var replicas []*notesclient.Client
	for _, pod := range pods[:2] {
		replica, _ := c.connectTo(t, c.namespace, "pod/"+pod.Name, "8443")
		replicas = append(replicas, replica)
	}
	var a, b *user
	register := func() {
		t.Helper()
		a = signUp(t, replicas[0])
		b = &user{Client: replicas[1].WithToken(a.Token()), name: a.name, password: a.password}
		retry(t, b.list)
	}

	register()
	retry(t, func(ctx context.Context) error { return a.DeleteAccount(ctx, a.password) })
	mustBeRefused(t, http.StatusUnauthorized, b.list)

	register()
	retry(t, a.Logout)
	mustBeRefused(t, http.StatusUnauthorized, b.list)

	a.logIn(t)
	b.logIn(t)
	var sessions []notesclient.Session
	retry(t, func(ctx context.Context) (err error) {
		sessions, err = a.ListSessions(ctx)
		return err
	})
	for _, session := range sessions {
		if !session.Current {
			retry(t, func(ctx context.Context) error { return a.RevokeSession(ctx, session.ID, a.password) })
		}
	}
	mustBeRefused(t, http.StatusUnauthorized, b.list)

	b.logIn(t)
	replacement := rand.Text()
	retry(t, func(ctx context.Context) error { return a.ChangePassword(ctx, a.password, replacement) })
	mustBeRefused(t, http.StatusUnauthorized, b.list)
	a.password, b.password = replacement, replacement
	b.logIn(t)

	login := func(u *user, password string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := u.Login(ctx, u.name, password)
			return err
		}
	}
	for _, u := range []*user{a, b, a, b, a} {
		eventuallyRefused(t, http.StatusUnauthorized, login(u, "wrong horse battery"))
	}
	for _, u := range []*user{b, a} {
		eventuallyRefused(t, http.StatusTooManyRequests, login(u, replacement))
	}
}
