package notesclient_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/securenotes/securenotes/hack/notesclient"
)

// seen is a request as the service receives it.
type seen struct{ request, body, token, ifMatch, key string }

// serve starts a service that gives the same answer to every request, and returns a client for it.
func serve(t *testing.T, o notesclient.Options, status int, header map[string]string, answer string) (*notesclient.Client, *seen) {
	t.Helper()
	got := &seen{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		*got = seen{r.Method + " " + r.URL.String(), string(raw), r.Header.Get("Authorization"), r.Header.Get("If-Match"), r.Header.Get("Idempotency-Key")}
		for name, value := range header {
			w.Header().Set(name, value)
		}
		w.Header().Set("Proto", r.Proto)
		w.Header().Set("Peer", r.RemoteAddr)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	o.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	c := notesclient.New(server.URL, o).WithToken("secret")
	t.Cleanup(c.Close)
	return c, got
}

func TestCalls(t *testing.T) {
	const note = `{"id":"1","content":"text","title":"about"}`
	content := notesclient.Content{Content: "text", Title: "about"}
	stored := &notesclient.Note{ID: "1", Content: content, ETag: `"7"`}
	done := func(err error) (any, error) { return nil, err }
	for name, tc := range map[string]struct {
		status int
		answer string
		call   func(context.Context, *notesclient.Client) (any, error)
		sent   seen
		want   any
	}{
		"register": {201, `{"message":"done"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.Register(ctx, "alice", "battery"))
		}, seen{request: "POST /api/auth/register", body: `{"username":"alice","password":"battery"}`}, nil},
		"login": {200, `{"token":"t"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.Login(ctx, "alice", "battery")
		}, seen{request: "POST /api/auth/login", body: `{"username":"alice","password":"battery"}`}, &notesclient.Login{Token: "t"}},
		"logout": {200, `{}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.Logout(ctx))
		}, seen{request: "POST /api/auth/logout"}, nil},
		"change the password": {200, `{}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.ChangePassword(ctx, "old", "new"))
		}, seen{request: "POST /api/auth/password", body: `{"current_password":"old","new_password":"new"}`}, nil},
		"list sessions": {200, `{"sessions":[{"id":"1","current":true}]}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.ListSessions(ctx)
		}, seen{request: "GET /api/auth/sessions"}, []notesclient.Session{{ID: "1", Current: true}}},
		"revoke a session": {200, `{}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.RevokeSession(ctx, "1", "battery"))
		}, seen{request: "DELETE /api/auth/sessions/1", body: `{"password":"battery"}`}, nil},
		"delete the account": {200, `{}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.DeleteAccount(ctx, "battery"))
		}, seen{request: "DELETE /api/account", body: `{"password":"battery"}`}, nil},
		"export": {200, "{}\n{}\n", func(ctx context.Context, c *notesclient.Client) (any, error) {
			raw, err := c.ExportAccount(ctx)
			return string(raw), err
		}, seen{request: "GET /api/account/export"}, "{}\n{}\n"},
		"create a note": {201, `{"id":"1"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.CreateNote(ctx, content)
		}, seen{request: "POST /api/notes", body: `{"content":"text","title":"about"}`}, stored},
		"create a note once": {201, `{"id":"1"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.CreateNoteIdempotent(ctx, content, "key")
		}, seen{request: "POST /api/notes", body: `{"content":"text","title":"about"}`, key: "key"}, stored},
		"get a note": {200, note, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.GetNote(ctx, "1")
		}, seen{request: "GET /api/notes/1"}, stored},
		"update a note": {200, `{"id":"1"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.UpdateNote(ctx, "1", content, `"6"`)
		}, seen{request: "PUT /api/notes/1", body: `{"content":"text","title":"about"}`, ifMatch: `"6"`}, stored},
		"delete a note": {200, `{}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return done(c.DeleteNote(ctx, "1", `"7"`))
		}, seen{request: "DELETE /api/notes/1", ifMatch: `"7"`}, nil},
		"list notes": {200, `{"notes":[{"id":"1"}],"next_cursor":"2"}`, func(ctx context.Context, c *notesclient.Client) (any, error) {
			return c.ListNotes(ctx, 200, "a b")
		}, seen{request: "GET /api/notes?cursor=a+b&limit=200"}, &notesclient.Page{Notes: []notesclient.Listed{{ID: "1"}}, NextCursor: "2"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, sent := serve(t, notesclient.Options{}, tc.status, map[string]string{"ETag": `"7"`}, tc.answer)
			got, err := tc.call(t.Context(), c)
			if err != nil || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v; want %+v", got, err, tc.want)
			}
			tc.sent.token = "Bearer secret"
			if *sent != tc.sent {
				t.Errorf("sent %+v, want %+v", *sent, tc.sent)
			}

			refused, _ := serve(t, notesclient.Options{}, http.StatusServiceUnavailable, map[string]string{"Retry-After": "3"}, `{"error":"not now"}`)
			_, err = tc.call(t.Context(), refused)
			if status := notesclient.Status(err); status != http.StatusServiceUnavailable || !strings.Contains(err.Error(), "not now") {
				t.Errorf("refused: got %v with status %d, want the service's error", err, status)
			}
		})
	}
}

// TestOnlyTheServiceRefuses checks that only an answer of the service becomes a StatusError: an
// answer of a proxy does not say what the service did.
func TestOnlyTheServiceRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		answer string
		want   int
	}{
		"the service's refusal": {404, `{"error":"no such note"}`, 404},
		"a proxy's page":        {404, "<html>", 0},
		"half of an answer":     {200, `{"id":`, 0},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, notesclient.Options{}, tc.status, nil, tc.answer)
			_, err := c.GetNote(t.Context(), "1")
			if got := notesclient.Status(err); err == nil || got != tc.want {
				t.Errorf("got status %d of %v, want %d", got, err, tc.want)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		options      notesclient.Options
		protocol     string
		peer         string
		reconnecting bool
	}{
		"HTTP/1.1":               {options: notesclient.Options{}, protocol: "HTTP/1.1", peer: "127.0.0.1:"},
		"HTTP/2":                 {options: notesclient.Options{HTTP2: true}, protocol: "HTTP/2.0", peer: "127.0.0.1:"},
		"connection per request": {options: notesclient.Options{ConnectionPerRequest: true}, protocol: "HTTP/1.1", peer: "127.0.0.1:", reconnecting: true},
		"local address":          {options: notesclient.Options{LocalAddress: "127.0.0.9"}, protocol: "HTTP/1.1", peer: "127.0.0.9:"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := serve(t, tc.options, http.StatusOK, nil, `{}`)
			var peers []string
			for range 2 {
				a, err := c.Do(t.Context(), notesclient.Request{Method: http.MethodGet, Path: "/"})
				if err != nil {
					t.Fatal(err)
				}
				if got := a.Header.Get("Proto"); got != tc.protocol {
					t.Errorf("got %s, want %s", got, tc.protocol)
				}
				peers = append(peers, a.Header.Get("Peer"))
			}
			if !strings.HasPrefix(peers[0], tc.peer) || (peers[0] != peers[1]) != tc.reconnecting {
				t.Errorf("connections came from %v, want from %s, reconnecting %t", peers, tc.peer, tc.reconnecting)
			}
		})
	}
}

// TestBodies checks that Do sends a body only if there is one, and reads the message of an error.
func TestBodies(t *testing.T) {
	c, sent := serve(t, notesclient.Options{}, http.StatusTeapot, nil, `{"error":"a teapot"}`)
	a, err := c.Do(t.Context(), notesclient.Request{Method: http.MethodPut, Path: "/x", Body: json.RawMessage(`{"a":1}`)})
	if err != nil || a.Status != http.StatusTeapot || a.Message() != "a teapot" || sent.body != `{"a":1}` {
		t.Errorf("got %+v, %v for %+v", a, err, *sent)
	}
	if _, err := c.Do(t.Context(), notesclient.Request{Method: http.MethodGet, Path: "/x"}); err != nil || sent.body != "" {
		t.Errorf("sent %+v, %v", *sent, err)
	}
}
