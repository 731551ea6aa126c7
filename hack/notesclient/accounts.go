package notesclient

import (
	"context"
	"net/http"
	"time"
)

// credentials are the body of register and login.
type credentials struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// confirmation is the body of calls that require the password again.
type confirmation struct {
	Password string `json:"password"`
}

// Register creates an account.
func (c *Client) Register(ctx context.Context, username, password string) error {
	_, err := c.call(ctx, Request{Method: http.MethodPost, Path: "/api/auth/register", Body: credentials{username, password}}, http.StatusCreated, nil)
	return err
}

// Login is what a login returns.
type Login struct {
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Login starts a session. [Client.WithToken] returns a client for it.
func (c *Client) Login(ctx context.Context, username, password string) (*Login, error) {
	l := &Login{}
	if _, err := c.call(ctx, Request{Method: http.MethodPost, Path: "/api/auth/login", Body: credentials{username, password}}, http.StatusOK, l); err != nil {
		return nil, err
	}
	return l, nil
}

// Logout ends the session.
func (c *Client) Logout(ctx context.Context) error {
	_, err := c.call(ctx, Request{Method: http.MethodPost, Path: "/api/auth/logout"}, http.StatusOK, nil)
	return err
}

// ChangePassword changes the password and ends every other session.
func (c *Client) ChangePassword(ctx context.Context, current, replacement string) error {
	body := map[string]string{"current_password": current, "new_password": replacement}
	_, err := c.call(ctx, Request{Method: http.MethodPost, Path: "/api/auth/password", Body: body}, http.StatusOK, nil)
	return err
}

// Session is an entry of the list of sessions.
type Session struct {
	ID      string `json:"id"`
	Current bool   `json:"current"`
}

// ListSessions lists the user's sessions.
func (c *Client) ListSessions(ctx context.Context) ([]Session, error) {
	var list struct{ Sessions []Session }
	if _, err := c.call(ctx, Request{Method: http.MethodGet, Path: "/api/auth/sessions"}, http.StatusOK, &list); err != nil {
		return nil, err
	}
	return list.Sessions, nil
}

// RevokeSession ends another session of the user.
func (c *Client) RevokeSession(ctx context.Context, id, password string) error {
	_, err := c.call(ctx, Request{Method: http.MethodDelete, Path: "/api/auth/sessions/" + id, Body: confirmation{password}}, http.StatusOK, nil)
	return err
}

// DeleteAccount deletes the account and all its data.
func (c *Client) DeleteAccount(ctx context.Context, password string) error {
	_, err := c.call(ctx, Request{Method: http.MethodDelete, Path: "/api/account", Body: confirmation{password}}, http.StatusOK, nil)
	return err
}

// ExportAccount returns the account's export, one JSON object per line.
func (c *Client) ExportAccount(ctx context.Context) ([]byte, error) {
	a, err := c.call(ctx, Request{Method: http.MethodGet, Path: "/api/account/export"}, http.StatusOK, nil)
	if err != nil {
		return nil, err
	}
	return a.Body, nil
}
