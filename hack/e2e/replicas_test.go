//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"net/http"
	"testing"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// TestReplicasAgree asks two replicas by turns: a logout, a revoked session, a changed password and
// the limit of failed logins, and an account's deletion hold on the other one with the very next request.
func TestReplicasAgree(t *testing.T) {
	c := open(t)
	c.ready(t, c.sample())
	pods := c.apiPods(t, c.namespace, c.name)
	if len(pods) < 2 {
		t.Fatalf("%d pods, the sample must have 2", len(pods))
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
		patiently(t, b.list)
	}

	register()
	patiently(t, func(ctx context.Context) error { return a.DeleteAccount(ctx, a.password) })
	refusedNow(t, http.StatusUnauthorized, b.list)

	register()
	patiently(t, a.Logout)
	refusedNow(t, http.StatusUnauthorized, b.list)

	a.logIn(t)
	b.logIn(t)
	var sessions []notesclient.Session
	patiently(t, func(ctx context.Context) (err error) {
		sessions, err = a.ListSessions(ctx)
		return err
	})
	for _, session := range sessions {
		if !session.Current {
			patiently(t, func(ctx context.Context) error { return a.RevokeSession(ctx, session.ID, a.password) })
		}
	}
	refusedNow(t, http.StatusUnauthorized, b.list)

	b.logIn(t)
	replacement := rand.Text()
	patiently(t, func(ctx context.Context) error { return a.ChangePassword(ctx, a.password, replacement) })
	refusedNow(t, http.StatusUnauthorized, b.list)
	a.password, b.password = replacement, replacement
	b.logIn(t)

	login := func(u *user, password string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := u.Login(ctx, u.name, password)
			return err
		}
	}
	for _, u := range []*user{a, b, a, b, a} {
		refused(t, http.StatusUnauthorized, login(u, "wrong horse battery"))
	}
	for _, u := range []*user{b, a} {
		refused(t, http.StatusTooManyRequests, login(u, replacement))
	}
}
