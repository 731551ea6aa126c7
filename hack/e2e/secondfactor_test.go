//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/securenotes/securenotes/hack/notesclient"
	"github.com/securenotes/securenotes/hack/poll"
)

// secondFactor generates the codes of a user's second factor.
type secondFactor struct {
	secret string
	// used is the step of 30 seconds whose code was used last. A code is accepted once.
	used int64
}

// next returns the code of a step that was not used, once there is one.
func (f *secondFactor) next() (string, error) {
	now := time.Now()
	step := now.Unix() / 30
	if step <= f.used {
		return "", fmt.Errorf("the code of step %d was used", step)
	}
	f.used = step
	return totp.GenerateCode(f.secret, now)
}

// setUpSecondFactor sets up a second factor.
func (u *user) setUpSecondFactor(t testing.TB) secondFactor {
	t.Helper()
	var proposal struct{ Secret string }
	mustSucceed(t, func(ctx context.Context) error {
		return u.post(ctx, "/api/auth/totp", map[string]string{"password": u.password}, http.StatusCreated, &proposal)
	})
	f := secondFactor{secret: proposal.Secret}
	code, err := f.next()
	if err != nil {
		t.Fatal(err)
	}
	mustSucceed(t, func(ctx context.Context) error {
		return u.post(ctx, "/api/auth/totp/confirm", map[string]string{"code": code}, http.StatusOK, nil)
	})
	return f
}

// logInWith starts a session with the second factor. It tries one code of each step.
func (u *user) logInWith(t testing.TB, f *secondFactor) {
	t.Helper()
	var login notesclient.Login
	poll.Eventually(t, 2*time.Minute, "a login with the second factor", func(ctx context.Context) error {
		code, err := f.next()
		if err != nil {
			return err
		}
		return u.post(ctx, "/api/auth/login", map[string]string{"username": u.name, "password": u.password, "code": code}, http.StatusOK, &login)
	})
	u.Client = u.WithToken(login.Token)
}

// post sends a request, and decodes an answer of the wanted status.
func (u *user) post(ctx context.Context, path string, body any, want int, into any) error {
	answer, err := u.Do(ctx, notesclient.Request{Method: http.MethodPost, Path: path, Body: body})
	switch {
	case err != nil:
		return err
	case answer.Status != want:
		return fmt.Errorf("%s: status %d: %s", path, answer.Status, answer.Message())
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer.Body, into)
}
