// Package tour does what the project is for, as a client and as an administrator would: write and
// read notes over HTTPS, rotate the master key, and read the notes again.
package tour

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Client is one user of the notes API.
type Client struct {
	url   string
	http  *http.Client
	token string
}

// NewClient trusts the given certificate authority and nothing else.
func NewClient(url, caFile string) (*Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", caFile)
	}
	return &Client{url: url, http: &http.Client{
		Timeout:   20 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS13}},
	}}, nil
}

// call makes one request and decodes the answer, which must have the wanted status.
func (c *Client) call(ctx context.Context, method, path string, body any, want int, into any) error {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, in)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: wanted status %d, got %s: %s", method, path, want, resp.Status, bytes.TrimSpace(answer))
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(answer, into)
}

// Note is what the tour wrote and expects to read back.
type Note struct{ ID, Content string }

// FirstDay registers a user, logs in, and writes, lists and reads a note.
func (c *Client) FirstDay(ctx context.Context, say func(string, ...any)) (Note, error) {
	note := Note{Content: "Meet at the old bridge at nine. " + rand.Text()}
	user := map[string]string{"username": "visitor-" + rand.Text()[:10], "password": rand.Text()}
	if err := c.call(ctx, http.MethodPost, "/api/auth/register", user, http.StatusCreated, nil); err != nil {
		return note, err
	}
	say("POST /api/auth/register -> 201  user %s", user["username"])
	var login struct {
		Token     string    `json:"token"`
		ExpiresAt time.Time `json:"expires_at"`
	}
	if err := c.call(ctx, http.MethodPost, "/api/auth/login", user, http.StatusOK, &login); err != nil {
		return note, err
	}
	c.token = login.Token
	say("POST /api/auth/login    -> 200  token until %s", login.ExpiresAt.Local().Format(time.TimeOnly))
	var created struct{ ID string }
	if err := c.call(ctx, http.MethodPost, "/api/notes", map[string]string{"content": note.Content}, http.StatusCreated, &created); err != nil {
		return note, err
	}
	note.ID = created.ID
	say("POST /api/notes         -> 201  note %s", note.ID)
	var list struct{ Notes []struct{ ID string } }
	if err := c.call(ctx, http.MethodGet, "/api/notes", nil, http.StatusOK, &list); err != nil {
		return note, err
	}
	if len(list.Notes) != 1 || list.Notes[0].ID != note.ID {
		return note, fmt.Errorf("the list holds %d notes, not the one that was made", len(list.Notes))
	}
	say("GET  /api/notes         -> 200  1 note")
	return note, c.Read(ctx, note, say)
}

// Read reads a note and compares it with what was written.
func (c *Client) Read(ctx context.Context, note Note, say func(string, ...any)) error {
	var got struct{ Content string }
	if err := c.call(ctx, http.MethodGet, "/api/notes/"+note.ID, nil, http.StatusOK, &got); err != nil {
		return err
	}
	if got.Content != note.Content {
		return fmt.Errorf("note %s does not read as it was written", note.ID)
	}
	say("GET  /api/notes/{id}    -> 200  %q", got.Content)
	return nil
}

// Reachable tells whether the service answers at all, with a certificate that verifies.
func (c *Client) Reachable(ctx context.Context) error {
	return c.call(ctx, http.MethodGet, "/api/notes", nil, http.StatusUnauthorized, nil)
}
